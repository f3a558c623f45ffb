//! Results masked, beside the same results read and written unmasked, and copied.
//!
//! Rows of about 250 bytes, as a table of customers has them, of which two columns are masked.

#![allow(missing_docs, clippy::unwrap_used, reason = "a bench may")]

use std::{hint::black_box, sync::Arc};

use arrow_array::{ArrayRef, Decimal128Array, Int64Array, RecordBatch, StringArray};
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{DataType, Field, Schema};
use bytes::Bytes;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime};
use icegate_pep_masking::{
    Alphabet, ArrowMasker, Column, ColumnType, Detector, JsonMasker, KeyRing, Limits, Mask, Plan, Scanner, Shape,
};

const ROWS_A_BATCH: usize = 8_192;
const BATCHES: usize = 8;
/// As bytes come from a socket.
const PIECE_BYTES: usize = 64 << 10;
const TEXT: ColumnType = ColumnType::Text { chars_max: Some(1000) };
const WIDE: ColumnType = ColumnType::Fixed { precision: 38, scale: 0 };
const NAMES: [&str; 7] = ["ID", "NAME", "PHONE", "NOTE", "ADDRESS", "COMMENT", "BALANCE"];

fn cell(column: usize, row: usize) -> String {
    match column {
        1 => format!("Customer#{row:09}"),
        2 => format!("+49-{:03}-{:07}", row % 900 + 100, row * 7919 % 10_000_000),
        3 if row.is_multiple_of(50) => {
            format!("asked by mail, user{row}@example.com, to be called back in the morning")
        }
        3 => "the ordinary courts sleep quickly above the final, even packages of the week".to_owned(),
        4 => format!("{row} Long Street, Some Town"),
        5 => "carefully regular deposits are furiously among the slyly unusual requests; quickly bold ideas".to_owned(),
        _ => (row * 104_729).to_string(),
    }
}

fn arrow() -> Vec<u8> {
    let field = |name: &str, logical: &str, data_type| {
        let metadata = [("logicalType".to_owned(), logical.to_owned())];
        Field::new(name, data_type, true).with_metadata(arrow_schema::Metadata::from(metadata))
    };
    let fields: Vec<Field> = NAMES
        .iter()
        .map(|name| match *name {
            "ID" => field(name, "FIXED", DataType::Int64),
            "BALANCE" => field(name, "FIXED", DataType::Decimal128(38, 0)),
            _ => field(name, "TEXT", DataType::Utf8),
        })
        .collect();
    let schema = Arc::new(Schema::new(fields));
    let mut writer = StreamWriter::try_new(Vec::new(), &schema).unwrap();
    for batch in 0..BATCHES {
        let rows = || batch * ROWS_A_BATCH..(batch + 1) * ROWS_A_BATCH;
        let column = |column: usize| -> ArrayRef {
            match column {
                0 => Arc::new(rows().map(|row| i64::try_from(row).ok()).collect::<Int64Array>()),
                6 => {
                    let numbers = rows().map(|row| cell(6, row).parse::<i128>().ok()).collect::<Decimal128Array>();
                    Arc::new(numbers.with_data_type(DataType::Decimal128(38, 0)))
                }
                _ => Arc::new(rows().map(|row| Some(cell(column, row))).collect::<StringArray>()),
            }
        };
        writer.write(&RecordBatch::try_new(Arc::clone(&schema), (0..7).map(column).collect()).unwrap()).unwrap();
    }
    writer.finish().unwrap();
    writer.into_inner().unwrap()
}

fn json() -> Vec<u8> {
    let row = |row| serde_json::to_string(&(0..7).map(|column| cell(column, row)).collect::<Vec<_>>()).unwrap();
    (0..BATCHES * ROWS_A_BATCH).map(row).collect::<Vec<_>>().join(",").into_bytes()
}

fn plan(masks: [(usize, &Mask); 2]) -> Arc<Plan> {
    let column = |(ordinal, name): (usize, &&str)| Column {
        name: Some((*name).to_owned()),
        column_type: if [0, 6].contains(&ordinal) { WIDE } else { TEXT },
        mask: masks.iter().find(|(masked, _)| *masked == ordinal).map(|(_, mask)| (*mask).clone()),
    };
    Arc::new(Plan::new(NAMES.iter().enumerate().map(column).collect(), Limits::default()).unwrap())
}

fn plans() -> Vec<(&'static str, Arc<Plan>)> {
    let ring = KeyRing::parse("crm 1 AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").unwrap();
    let key = ring.current("crm").unwrap();
    let token = Mask::Tokenize { key: Arc::clone(&key), domain: "D".into() };
    let fpe = Mask::Fpe { key, domain: "D".into(), alphabet: Alphabet::Digits };
    let scan = Mask::Scan { scanner: Arc::new(Scanner::new(&Detector::ALL, &[]).unwrap()) };
    let unmasked = NAMES
        .iter()
        .enumerate()
        .map(|(ordinal, name)| Column::plain(*name, if [0, 6].contains(&ordinal) { WIDE } else { TEXT }));
    vec![
        ("read_and_written", Arc::new(Plan::new(unmasked.collect(), Limits::default()).unwrap())),
        ("two_tokens", plan([(1, &token), (2, &token)])),
        ("token_and_fpe", plan([(1, &token), (2, &fpe)])),
        ("token_and_scan", plan([(1, &token), (3, &scan)])),
    ]
}

fn pieces(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, sent: &[u8], mut run: impl FnMut(&[u8]) -> usize) {
    group.throughput(Throughput::Bytes(sent.len() as u64));
    group.bench_function(name, |bencher| bencher.iter(|| run(black_box(sent))));
}

fn masking(criterion: &mut Criterion) {
    for (format, sent) in [("arrow", arrow()), ("json", json())] {
        let mut group = criterion.benchmark_group(format);
        group.sample_size(10);
        // What passing bytes on costs at the least: each piece copied once.
        pieces(&mut group, "copied", &sent, |sent| {
            sent.chunks(PIECE_BYTES).map(|piece| black_box(piece.to_vec()).len()).sum()
        });
        for (name, plan) in plans() {
            pieces(&mut group, name, &sent, |sent| {
                let mut out = 0;
                if format == "arrow" {
                    let mut masker = ArrowMasker::new(Arc::clone(&plan));
                    for piece in sent.chunks(PIECE_BYTES) {
                        out += masker.push(piece).unwrap().iter().map(Bytes::len).sum::<usize>();
                    }
                    out + masker.finish().unwrap().iter().map(Bytes::len).sum::<usize>()
                } else {
                    let mut masker = JsonMasker::new(Arc::clone(&plan), Shape::Chunk);
                    out += sent.chunks(PIECE_BYTES).map(|piece| masker.push(piece).unwrap().len()).sum::<usize>();
                    out + masker.finish().unwrap().len()
                }
            });
        }
        group.finish();
    }
}

criterion_group!(benches, masking);
criterion_main!(benches);
