//! Who calls: a PEP by its certificate, a person by their token.

use icegate_pdp_model::{Outcome, Principal};
use icegate_pdp_policy::PersonAction;
use icegate_proto::{PEP_ID, PEP_INSTANCE};
use tonic::{Request, Status, metadata::MetadataMap};

use crate::{clock, state::Pdp};

/// Longest text a PEP may name itself with, in bytes.
pub(crate) const NAME_BYTES_MAX: usize = 128;

impl Pdp {
    /// Lets PEPs pass: with TLS whoever shows a certificate the configured authority signed, on loopback anybody.
    pub(crate) fn pep<T>(&self, request: &Request<T>) -> Result<(), Status> {
        if self.plaintext || request.peer_certs().is_some_and(|certs| !certs.is_empty()) {
            return Ok(());
        }
        Err(Status::unauthenticated(
            "This call is for PEPs: present a client certificate signed by the authority in `listen.tls.client_ca`.",
        ))
    }

    /// Verifies the caller's own token.
    pub(crate) async fn person(&self, metadata: &MetadataMap) -> Result<Principal, Status> {
        let token = bearer(metadata).ok_or_else(|| {
            Status::unauthenticated("This call is for people: send your OIDC token as `authorization: Bearer <token>`.")
        })?;
        let now = clock::now();
        let verified = self.verify(token, now).await.map_err(|error| Status::unauthenticated(error.sentence()))?;
        if self.revoked_since(&verified.principal.id, verified.issued) {
            return Err(Status::unauthenticated("Your tokens issued until now were revoked; sign in again."));
        }
        Ok(verified.principal)
    }

    /// Lets a person pass whom the policies in force permit this.
    pub(crate) fn permit(&self, principal: &Principal, action: PersonAction<'_>) -> Result<(), Status> {
        let verdict = self.bundle().may(principal, action);
        match verdict.outcome {
            Outcome::Allow => Ok(()),
            Outcome::Deny | Outcome::NeedsApproval | Outcome::Mask => {
                let why = verdict.reasons.first().map_or("no policy permits it", |reason| reason.message.as_str());
                Err(Status::permission_denied(format!("You may not {}: {why}", doing(action))))
            }
        }
    }

    /// Whether the policies in force permit this person that.
    pub(crate) fn may(&self, principal: &Principal, action: PersonAction<'_>) -> bool {
        self.bundle().may(principal, action).outcome == Outcome::Allow
    }
}

fn doing(action: PersonAction<'_>) -> String {
    match action {
        PersonAction::Approve(group) => format!("approve for `{group}`"),
        PersonAction::SearchAudit => "read the audit trail".into(),
        PersonAction::ListSessions => "list sessions".into(),
        PersonAction::RevokeSessions => "revoke sessions".into(),
    }
}

/// The token in `authorization`; the scheme is compared without regard to case (RFC 9110 §11.1).
fn bearer(metadata: &MetadataMap) -> Option<&str> {
    let (scheme, token) = metadata.get("authorization")?.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// What a PEP says of itself in metadata: its name and its present start.
pub(crate) fn pep_named(metadata: &MetadataMap) -> (Option<String>, Option<String>) {
    let text = |key| {
        let text = metadata.get(key)?.to_str().ok()?;
        (!text.is_empty() && text.len() <= NAME_BYTES_MAX).then(|| text.to_owned())
    };
    (text(PEP_ID), text(PEP_INSTANCE))
}

#[cfg(test)]
mod tests {
    use tonic::metadata::MetadataMap;

    use super::bearer;

    #[test]
    fn a_token_is_found_in_its_header_only() {
        for (header, wanted) in [
            ("Bearer abc", Some("abc")),
            ("bearer  abc", Some("abc")),
            ("Bearer ", None),
            ("Bearer", None),
            ("Basic abc", None),
            ("abc", None),
        ] {
            let mut metadata = MetadataMap::new();
            metadata.insert("authorization", header.parse().unwrap());
            assert_eq!(bearer(&metadata), wanted, "{header}");
        }
        assert_eq!(bearer(&MetadataMap::new()), None);
    }
}
