//! Results as replies carry them: rows in JSON and in Arrow, in the reply and in storage.

use std::collections::HashMap;
use std::io::Write as _;
use std::sync::Arc;

use arrow::array::{Array as _, RecordBatch, StringArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, Schema};
use arrow::ipc::writer::StreamWriter;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use super::storage::{Mood, Object, Storage};
use super::{CANARY, HIDDEN, Shared};

/// Rows in each part.
pub(super) const PART_ROWS: usize = 3;
/// How often the rows of a torn part come before what is none: more than is masked at one time.
const TORN_TIMES: usize = 20_000;
/// Bytes a torn Arrow stream ends early: its end mark, and some of the last batch.
const TORN_OFF_BYTES: usize = 20;

/// One column of text, whole in the reply.
pub(super) fn rows(id: &str, cells: &[&str], arrow: bool) -> Value {
    let mut data = json!({
        "rowtype": [{ "name": "SAID", "type": "text", "nullable": true, "length": 200, "byteLength": 800,
            "precision": null, "scale": null, "collation": null, "database": "", "schema": "", "table": "" }],
        "total": cells.len(), "returned": cells.len(), "queryId": id, "statementTypeId": 4096, "version": 1,
        "finalDatabaseName": "SALES", "finalSchemaName": "PUBLIC", "finalWarehouseName": "WH", "finalRoleName": "R",
        // What JDBC fetches parts by.
        "parameters": [{ "name": "CLIENT_PREFETCH_THREADS", "value": 4 }, { "name": "CLIENT_RESULT_CHUNK_SIZE", "value": 160 }],
        "sqlState": null,
    });
    if let Some(data) = data.as_object_mut() {
        if arrow {
            data.insert("queryResultFormat".to_owned(), "arrow".into());
            data.insert("rowsetBase64".to_owned(), STANDARD.encode(arrow_stream(cells, false, 1)).into());
        } else {
            let rows: Vec<[&str; 1]> = cells.iter().map(|cell| [*cell]).collect();
            data.insert("queryResultFormat".to_owned(), "json".into());
            data.insert("rowset".to_owned(), json!(rows));
        }
    }
    json!({ "success": true, "code": null, "message": null, "data": data })
}

/// What an INSERT is answered with, also when it is only described.
pub(super) fn inserted(id: &str, count: usize) -> Value {
    json!({ "success": true, "code": null, "message": null, "data": {
        "rowtype": [{ "name": "number of rows inserted", "type": "fixed", "nullable": false, "length": null,
            "byteLength": null, "precision": 19, "scale": 0, "database": "", "schema": "", "table": "" }],
        "rowset": [[count.to_string()]], "queryResultFormat": "json", "total": 1, "returned": 1, "queryId": id,
        "statementTypeId": 0x3100, "numberOfBinds": 2, "arrayBindSupported": true, "parameters": [],
        "finalDatabaseName": "SALES", "finalSchemaName": "PUBLIC", "finalWarehouseName": "WH", "finalRoleName": "R",
    } })
}

/// The same with the rest of it in storage, as the statement's words say.
pub(super) fn chunked(shared: &Shared, id: &str, sql: &str) -> Value {
    let says = |word: &str| sql.contains(word);
    let arrow = says("arrow");
    let mut reply = rows(id, &["inline"], arrow);
    let headers = if says("headers") {
        vec![
            ("x-amz-server-side-encryption-customer-algorithm".to_owned(), "AES256".to_owned()),
            ("x-amz-server-side-encryption-customer-key".to_owned(), format!("{CANARY}-customer-key")),
        ]
    } else if says("qrmk") {
        vec![
            ("x-amz-server-side-encryption-customer-algorithm".to_owned(), "AES256".to_owned()),
            ("x-amz-server-side-encryption-customer-key".to_owned(), format!("{CANARY}-master-key")),
        ]
    } else {
        Vec::new()
    };
    let parts = if says("single") { 1 } else { 2 };
    let chunks: Vec<Value> = (0..parts)
        .map(|part| {
            let cells: Vec<String> = (0..PART_ROWS).map(|row| format!("from storage {part}.{row}")).collect();
            let plain = part_body(&cells, arrow, says("hidden"), says("torn"));
            let packed = if says("gzip") || says("unlabelled") { gzip(&plain) } else { plain.clone() };
            let mood = if says("busy") {
                Mood::Busy(1)
            } else if says("redirect") {
                Mood::Redirect
            } else if says("cut") {
                Mood::Cut
            } else if says("long") {
                Mood::Long(20_000)
            } else if says("endless") {
                Mood::Long(u32::MAX)
            } else {
                Mood::Well
            };
            let sizes = (plain.len(), packed.len());
            let object = Object { body: packed, labelled: says("gzip"), headers: headers.clone(), mood };
            let url = put(&shared.storage, object, sql);
            json!({ "url": url, "rowCount": PART_ROWS, "uncompressedSize": sizes.0, "compressedSize": sizes.1 })
        })
        .collect();
    if let Some(data) = reply.get_mut("data").and_then(Value::as_object_mut) {
        let total = 1 + PART_ROWS * chunks.len();
        data.insert("chunks".to_owned(), chunks.into());
        data.insert("total".to_owned(), total.into());
        data.insert("returned".to_owned(), total.into());
        if says("headers") {
            let map: serde_json::Map<String, Value> =
                headers.into_iter().map(|(name, value)| (name, value.into())).collect();
            data.insert("chunkHeaders".to_owned(), map.into());
            data.insert("qrmk".to_owned(), format!("{CANARY}-not-this-key").into());
        } else if says("qrmk") {
            data.insert("qrmk".to_owned(), format!("{CANARY}-master-key").into());
        }
    }
    reply
}

fn put(storage: &Storage, object: Object, sql: &str) -> String {
    let url = storage.put(object);
    // An address of the network the proxy stands in, and none that results lie on.
    if sql.contains("elsewhere") {
        return format!("http://169.254.169.254/latest/meta-data/{CANARY}");
    }
    url
}

/// Rows of one part: JSON without the outer brackets, or an Arrow stream with its schema.
///
/// A torn one has the same rows many times over, and then what is none, or not all of a batch.
fn part_body(cells: &[String], arrow: bool, hidden: bool, torn: bool) -> Bytes {
    let cells: Vec<&str> = cells.iter().map(String::as_str).collect();
    let times = if torn { TORN_TIMES } else { 1 };
    if arrow {
        let mut stream = arrow_stream(&cells, hidden, times);
        if torn {
            stream.truncate(stream.len() - TORN_OFF_BYTES);
        }
        return stream.into();
    }
    let rows: Vec<String> = cells.iter().map(|cell| json!([cell]).to_string()).collect();
    let mut rows = vec![rows.join(","); times];
    if torn {
        rows.push(r#"{"said":"from storage"}"#.to_owned());
    }
    rows.join(",").into()
}

/// One Arrow IPC stream, with the metadata drivers go by: one batch, so many times. After the cells there can be a NULL over a
/// value nobody is shown.
#[expect(clippy::expect_used, reason = "for tests: one column of text always has a stream")]
fn arrow_stream(cells: &[&str], hidden: bool, times: usize) -> Vec<u8> {
    let metadata = [
        ("logicalType", "TEXT"),
        ("charLength", "200"),
        ("byteLength", "800"),
        ("scale", "0"),
        ("precision", "0"),
        ("finalType", "T"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let field = Field::new("SAID", DataType::Utf8, true).with_metadata(HashMap::from(metadata));
    let schema = Arc::new(Schema::new(vec![field]));
    let column = if hidden {
        let cells = StringArray::from_iter_values(cells.iter().chain(&[HIDDEN]));
        let nulls = (0..cells.len()).map(|at| at + 1 < cells.len()).collect::<NullBuffer>();
        let (offsets, values, _) = cells.into_parts();
        StringArray::new(offsets, values, Some(nulls))
    } else {
        StringArray::from_iter_values(cells)
    };
    let batch = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(column)]).expect("one column");
    let mut stream = StreamWriter::try_new(Vec::new(), &schema).expect("a stream");
    for _ in 0..times {
        stream.write(&batch).expect("a batch");
    }
    stream.into_inner().expect("whole")
}

#[expect(clippy::expect_used, reason = "for tests: writing to memory does not fail")]
fn gzip(plain: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(plain).expect("to memory");
    encoder.finish().expect("to memory").into()
}

pub(super) fn failed(id: &str, code: &str, message: &str, sqlstate: &str) -> Value {
    json!({ "success": false, "code": code, "message": message, "data": {
        "errorCode": code, "sqlState": sqlstate, "queryId": id, "line": 1, "pos": 0, "type": "COMPILATION",
    } })
}

pub(super) fn in_progress(id: &str, code: &str, url: &str) -> Value {
    json!({ "success": true, "code": code, "message": "in progress", "data": {
        "queryId": id, "getResultUrl": url, "queryAbortsAfterSecs": 300,
    } })
}

/// What a PUT or GET is answered with: the keys to the storage.
pub(super) fn credentials(id: &str, download: bool) -> Value {
    json!({ "success": true, "code": null, "message": null, "data": {
        "command": if download { "DOWNLOAD" } else { "UPLOAD" }, "src_locations": ["/tmp/x"], "parallel": 4,
        "threshold": 1, "autoCompress": true, "overwrite": false, "sourceCompression": "auto_detect",
        "operation": "Node", "queryId": id, "statementTypeId": if download { 0x7101 } else { 0x7102 },
        "localLocation": if download { Some("/tmp") } else { None },
        "stageInfo": { "locationType": "S3", "location": "bucket/path", "path": "path", "region": "eu-west-1",
            "creds": { "AWS_KEY_ID": format!("{CANARY}-key"), "AWS_SECRET_KEY": format!("{CANARY}-secret"),
                "AWS_TOKEN": format!("{CANARY}-token") } },
        "presignedUrls": [format!("http://203.0.113.9/{CANARY}-presigned")],
        "encryptionMaterial": { "queryStageMasterKey": format!("{CANARY}-stage"), "queryId": id, "smkId": 1 },
    } })
}
