//! PUT and GET: the reply hands the client credentials for a stage, and the client moves the files itself.

use serde_json::Value;

use super::ReplyRefusal;

/// A file transfer that was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transfer {
    /// `PUT`.
    Upload,
    /// `GET`.
    Download,
}

impl Transfer {
    /// What the statement was decided to be: a transfer only when it is one and nothing else.
    pub(super) fn of(statement_kinds: &[String]) -> Option<Self> {
        match statement_kinds {
            [one] if one == "put" => Some(Self::Upload),
            [one] if one == "get" => Some(Self::Download),
            _ => None,
        }
    }

    /// Snowflake's number for it.
    pub(super) fn statement_type_id(self) -> u64 {
        match self {
            Self::Upload => 0x7102,
            Self::Download => 0x7101,
        }
    }

    fn command(self) -> &'static str {
        match self {
            Self::Upload => "UPLOAD",
            Self::Download => "DOWNLOAD",
        }
    }

    /// Refuses a transfer that goes another way than the decided one, or to the disk of a server.
    pub(super) fn check(self, command: Option<&Value>, stage: Option<&Value>) -> Result<(), ReplyRefusal> {
        let same = command.and_then(Value::as_str).is_some_and(|told| told.eq_ignore_ascii_case(self.command()));
        let place = stage.and_then(|stage| stage.get("locationType")).and_then(Value::as_str);
        // `LOCAL_FS` makes the client read or write a path the server names.
        let cloud = matches!(place, Some("S3" | "AZURE" | "GCS"));
        if same && cloud { Ok(()) } else { Err(ReplyRefusal::Transfer) }
    }
}

/// Fields of a transfer that drivers know.
pub(super) const FIELDS: [&str; 18] = [
    "autoCompress",
    "clientShowEncryptionParameter",
    "command",
    "encryptionMaterial",
    "kind",
    "localLocation",
    "operation",
    "overwrite",
    "parallel",
    "presignedUrl",
    "presignedUrls",
    "queryId",
    "sourceCompression",
    "src_locations",
    "stageInfo",
    "statementTypeId",
    "threshold",
    "uploadInfo",
];
