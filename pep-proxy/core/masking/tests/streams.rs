//! Both readers: what they make of results, and of what is none.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests may")]

use std::{
    io::Cursor,
    sync::{Arc, LazyLock},
};

use arrow_array::{
    Array, ArrayRef, Decimal128Array, DictionaryArray, Int8Array, Int64Array, ListArray, RecordBatch, StringArray,
    StructArray,
    cast::AsArray,
    types::{Decimal128Type, Int32Type, Int64Type},
};
use arrow_buffer::{Buffer, NullBuffer, OffsetBuffer};
use arrow_ipc::{reader::StreamReader, writer::StreamWriter};
use arrow_schema::{DataType, Field, Schema};
use icegate_pep_masking::{
    Alphabet, ArrowMasker, Column, ColumnType, Detector, JsonMasker, Key, KeyRing, Limits, Mask, MaskingError, Plan,
    PlanError, Scanner, Shape,
};
use proptest::prelude::*;

/// In every value that must not leave.
const CANARY: &str = "kanarie";
const TEXT: ColumnType = ColumnType::Text { chars_max: Some(200) };
const NUMBER: ColumnType = ColumnType::Fixed { precision: 12, scale: 2 };
const WIDE: ColumnType = ColumnType::Fixed { precision: 38, scale: 0 };

fn key() -> Arc<Key> {
    KeyRing::parse("crm 1 AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").unwrap().current("crm").unwrap()
}

fn tokenize() -> Mask {
    Mask::Tokenize { key: key(), domain: "D".into() }
}

fn fpe(alphabet: Alphabet) -> Mask {
    Mask::Fpe { key: key(), domain: "D".into(), alphabet }
}

fn scan() -> Mask {
    static SCANNER: LazyLock<Arc<Scanner>> = LazyLock::new(|| Arc::new(Scanner::new(&Detector::ALL, &[]).unwrap()));
    Mask::Scan { scanner: Arc::clone(&SCANNER) }
}

/// A plain column and one of each mask.
fn plan(limits: Limits) -> Arc<Plan> {
    let columns = vec![
        Column::plain("ID", WIDE),
        Column::masked("NAME", TEXT, tokenize()),
        Column::masked("AMOUNT", NUMBER, tokenize()),
        Column::masked("PHONE", TEXT, fpe(Alphabet::Digits)),
        Column::masked("ACCOUNT", WIDE, fpe(Alphabet::Digits)),
        Column::masked("NOTE", TEXT, scan()),
        Column::masked("PAYLOAD", ColumnType::Semistructured, scan()),
    ];
    Arc::new(Plan::new(columns, limits).unwrap())
}

#[derive(Debug, Clone)]
struct Row {
    id: i64,
    name: Option<String>,
    amount: Option<i8>,
    phone: Option<String>,
    account: Option<i64>,
    note: Option<String>,
    payload: Option<String>,
}

fn row() -> impl Strategy<Value = Row> {
    let text = || prop::option::of(any::<String>().prop_map(|text| format!("{CANARY}{text}")));
    let note = prop::option::of("[a-z \"\\\\]{0,9}".prop_map(|text| format!("{text} {CANARY}@example.com")));
    let payload = prop::option::of(
        any::<String>()
            .prop_map(|text| serde_json::json!({ "t": text, "m": format!("{CANARY}@example.com") }).to_string()),
    );
    let phone = prop::option::of(prop_oneof!["[0-9]{3}-[0-9]{6}", "kanarie[0-9]{6}"]);
    (any::<i64>(), text(), any::<Option<i8>>(), phone, any::<Option<i64>>(), note, payload).prop_map(
        |(id, name, amount, phone, account, note, payload)| Row { id, name, amount, phone, account, note, payload },
    )
}

/// A field as Snowflake announces it.
fn field(name: &str, logical: &str, data_type: DataType) -> Field {
    let metadata = [("logicalType", logical), ("finalType", "T")];
    Field::new(name, data_type, true)
        .with_metadata(arrow_schema::Metadata::from(metadata.map(|(k, v)| (k.to_owned(), v.to_owned()))))
}

fn schema() -> Arc<Schema> {
    Arc::new(Schema::new(vec![
        field("ID", "FIXED", DataType::Int64),
        field("NAME", "TEXT", DataType::Utf8),
        field("AMOUNT", "FIXED", DataType::Int8),
        field("PHONE", "TEXT", DataType::Utf8),
        field("ACCOUNT", "FIXED", DataType::Decimal128(38, 0)),
        field("NOTE", "TEXT", DataType::Utf8),
        field("PAYLOAD", "VARIANT", DataType::Utf8),
    ]))
}

fn batch(rows: &[Row]) -> RecordBatch {
    let texts = |of: fn(&Row) -> &Option<String>| -> ArrayRef {
        Arc::new(rows.iter().map(|row| of(row).as_deref()).collect::<StringArray>())
    };
    let accounts = rows.iter().map(|row| row.account.map(i128::from)).collect::<Decimal128Array>();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|row| Some(row.id)).collect::<Int64Array>()),
        texts(|row| &row.name),
        Arc::new(rows.iter().map(|row| row.amount).collect::<Int8Array>()),
        texts(|row| &row.phone),
        Arc::new(accounts.with_data_type(DataType::Decimal128(38, 0))),
        texts(|row| &row.note),
        texts(|row| &row.payload),
    ];
    RecordBatch::try_new(schema(), columns).unwrap()
}

fn stream(batches: &[RecordBatch]) -> Vec<u8> {
    let mut writer = StreamWriter::try_new(Vec::new(), &batches[0].schema()).unwrap();
    for batch in batches {
        writer.write(batch).unwrap();
    }
    writer.finish().unwrap();
    writer.into_inner().unwrap()
}

fn json(rows: &[Row]) -> Vec<u8> {
    let rows: Vec<String> = rows
        .iter()
        .map(|row| {
            let amount = row.amount.map(|amount| {
                let sign = if amount < 0 { "-" } else { "" };
                format!("{sign}{}.{:02}", amount.unsigned_abs() / 100, amount.unsigned_abs() % 100)
            });
            serde_json::json!([
                row.id.to_string(),
                row.name,
                amount,
                row.phone,
                row.account.map(|account| account.to_string()),
                row.note,
                row.payload
            ])
            .to_string()
        })
        .collect();
    rows.join(",").into_bytes()
}

/// Pushes the bytes in pieces of these lengths, over and over.
fn arrow_masked(plan: &Arc<Plan>, bytes: &[u8], pieces: &[usize]) -> Result<Vec<u8>, MaskingError> {
    let mut masker = ArrowMasker::new(Arc::clone(plan));
    let mut out = Vec::new();
    for piece in cut(bytes, pieces) {
        out.append(&mut masker.push(piece)?);
    }
    out.append(&mut masker.finish()?);
    Ok(out.concat())
}

fn json_masked(plan: &Arc<Plan>, shape: Shape, bytes: &[u8], pieces: &[usize]) -> Result<Vec<u8>, MaskingError> {
    let mut masker = JsonMasker::new(Arc::clone(plan), shape);
    let mut out = Vec::new();
    for piece in cut(bytes, pieces) {
        out.extend(masker.push(piece)?);
    }
    out.extend(masker.finish()?);
    Ok(out)
}

fn cut<'b>(mut bytes: &'b [u8], pieces: &[usize]) -> Vec<&'b [u8]> {
    let mut all = Vec::new();
    for length in pieces.iter().cycle() {
        if bytes.is_empty() {
            break;
        }
        let (piece, rest) = bytes.split_at(bytes.len().min((*length).max(1)));
        all.push(piece);
        bytes = rest;
    }
    all
}

fn read(bytes: &[u8]) -> Vec<RecordBatch> {
    StreamReader::try_new(Cursor::new(bytes), None).unwrap().collect::<Result<_, _>>().unwrap()
}

fn holds(haystack: &[u8], needle: &str) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle.as_bytes())
}

/// The cells of a masked Arrow result as JSON has them.
fn cells(batches: &[RecordBatch]) -> Vec<Vec<Option<String>>> {
    let mut rows = Vec::new();
    for batch in batches {
        for index in 0..batch.num_rows() {
            rows.push(
                batch
                    .columns()
                    .iter()
                    .map(|array| {
                        array.is_valid(index).then(|| match array.data_type() {
                            DataType::Utf8 => array.as_string::<i32>().value(index).to_owned(),
                            DataType::Int64 => array.as_primitive::<Int64Type>().value(index).to_string(),
                            DataType::Decimal128(..) => array.as_primitive::<Decimal128Type>().value(index).to_string(),
                            other => panic!("{other} is not masked like that"),
                        })
                    })
                    .collect(),
            );
        }
    }
    rows
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Arrow and JSON are masked alike, however the bytes come, and no canary is left in the bytes.
    #[test]
    fn both_formats_agree_and_nothing_is_left(
        rows in prop::collection::vec(row(), 1..12), split in 0_usize..12, pieces in prop::collection::vec(1_usize..700, 1..6),
    ) {
        let plan = plan(Limits::default());
        let (first, second) = rows.split_at(split.min(rows.len()));
        let sent = stream(&[batch(first), batch(second)]);
        let arrow = arrow_masked(&plan, &sent, &pieces).unwrap();
        prop_assert_eq!(&arrow, &arrow_masked(&plan, &sent, &[usize::MAX]).unwrap());
        prop_assert!(!holds(&arrow, CANARY));

        let text = json(&rows);
        let chunk = json_masked(&plan, Shape::Chunk, &text, &pieces).unwrap();
        let rowset = json_masked(&plan, Shape::Rowset, &[b"[", &text[..], b"]"].concat(), &pieces).unwrap();
        prop_assert_eq!(&rowset, &[b"[", &chunk[..], b"]"].concat());
        prop_assert!(!holds(&chunk, CANARY));

        let masked = read(&arrow);
        prop_assert!(matches!(masked[0].schema().field(4).data_type(), DataType::Decimal128(38, 0)));
        let mut in_json: Vec<Vec<Option<String>>> = serde_json::from_slice(&rowset).unwrap();
        for row in &mut in_json {
            // The same number without its point, as Arrow has it.
            row[2] = row[2].take().map(|amount| amount.replace('.', "").parse::<i64>().unwrap().to_string());
        }
        prop_assert_eq!(cells(&masked), in_json);
        for (row, batch_row) in rows.iter().zip(cells(&masked)) {
            prop_assert_eq!(batch_row[0].as_ref().unwrap(), &row.id.to_string());
            prop_assert_eq!(row.name.is_some(), batch_row[1].is_some());
        }
    }

    /// Whatever is changed, cut or put in: an error or a stream that can be read, never a panic.
    #[test]
    fn damaged_arrow_is_refused_or_reads(
        rows in prop::collection::vec(row(), 1..5),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        end in any::<prop::sample::Index>(), cuts in any::<bool>(), structured in any::<bool>(),
    ) {
        let (mut sent, plan) =
            if structured { (nested(), nested_plan()) } else { (stream(&[batch(&rows)]), plan(Limits::default())) };
        for (at, byte) in damage {
            let at = at.index(sent.len());
            sent[at] = byte;
        }
        if cuts {
            sent.truncate(end.index(sent.len()));
        }
        if let Ok(masked) = arrow_masked(&plan, &sent, &[97])
            && !masked.is_empty()
        {
            read(&masked);
        }
    }

    #[test]
    fn damaged_json_is_refused_or_reads(
        rows in prop::collection::vec(row(), 1..4),
        damage in prop::collection::vec((any::<prop::sample::Index>(), prop::sample::select(&b"\"\\[],{}nul 1\x00\xff"[..])), 0..4),
        end in any::<prop::sample::Index>(), garbage in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        let mut sent = json(&rows);
        for (at, byte) in damage {
            let at = at.index(sent.len());
            sent[at] = byte;
        }
        sent.truncate(end.index(sent.len() + 1));
        let plan = plan(Limits::default());
        let _ = json_masked(&plan, Shape::Chunk, &sent, &[13]);
        prop_assert!(garbage.is_empty() || garbage.iter().all(u8::is_ascii_whitespace)
            || json_masked(&plan, Shape::Rowset, &garbage, &[7]).is_err());
    }
}

/// One column of text, for what is about the stream and not the masks.
fn text_plan(mask: Option<Mask>) -> Arc<Plan> {
    let column = Column { name: Some("A".into()), column_type: TEXT, mask };
    Arc::new(Plan::new(vec![column], Limits::default()).unwrap())
}

fn one(name: &str, logical: &str, array: ArrayRef) -> Vec<u8> {
    let schema = Schema::new(vec![field(name, logical, array.data_type().clone())]);
    stream(&[RecordBatch::try_new(Arc::new(schema), vec![array]).unwrap()])
}

fn refused(plan: &Arc<Plan>, sent: &[u8]) -> String {
    arrow_masked(plan, sent, &[usize::MAX]).unwrap_err().to_string()
}

/// Bytes under a NULL, before the first offset and after the last are in no array that leaves.
#[test]
fn hidden_bytes_stay_behind() {
    let values = Buffer::from(b"kanarie-akanarie-bkanarie-c".to_vec());
    let offsets = OffsetBuffer::new(vec![9, 18, 18].into());
    let array: ArrayRef = Arc::new(StringArray::new(offsets, values, Some(NullBuffer::from(vec![false, true]))));
    for mask in [tokenize(), scan(), fpe(Alphabet::Lower)] {
        let sent = one("A", "TEXT", Arc::clone(&array));
        assert!(holds(&sent, "kanarie-b"), "the canary is in what Snowflake sends");
        let masked = arrow_masked(&text_plan(Some(mask)), &sent, &[usize::MAX]).unwrap();
        assert!(!holds(&masked, CANARY));
        assert_eq!(read(&masked)[0].column(0).null_count(), 1);
    }
}

/// Of columns that pass, what they show stays, and what they do not show is gone.
#[test]
fn what_nobody_is_shown_is_not_passed_on() {
    let hidden = |nulls: Vec<bool>| -> ArrayRef {
        let offsets = OffsetBuffer::new(vec![0, 9, 18, 27].into());
        let values = Buffer::from(b"kanarie-ashown---kanarie-c".to_vec().into_iter().chain(*b"!").collect::<Vec<_>>());
        Arc::new(StringArray::new(offsets, values, Some(NullBuffer::from(nulls))))
    };
    let texts = hidden(vec![false, true, false]);
    // Two lists: one that is NULL over hidden elements, and one of the second element alone.
    let child = Arc::new(Field::new("element", DataType::Utf8, true));
    let list = |texts: ArrayRef| -> ArrayRef {
        let offsets = OffsetBuffer::new(vec![0, 1, 2].into());
        Arc::new(ListArray::new(Arc::clone(&child), offsets, texts, Some(NullBuffer::from(vec![false, true]))))
    };
    let lists = list(Arc::new(StringArray::from(vec!["kanarie-a", "shown---", "kanarie-c"])));
    let numbers: ArrayRef =
        Arc::new(Int64Array::new(vec![0x6b61_6e61_7269_6531, 7].into(), Some(NullBuffer::from(vec![false, true]))));
    let field = vec![Field::new("m", DataType::Utf8, true)];
    let structs =
        StructArray::new(field.into(), vec![texts.slice(0, 3)], Some(NullBuffer::from(vec![false, true, true])));
    for (array, canary) in [(texts, CANARY), (lists, CANARY), (Arc::new(structs), CANARY), (numbers, "1eiranak")] {
        let sent = one("A", "TEXT", Arc::clone(&array));
        assert!(holds(&sent, canary), "the canary is in what is sent");
        for plan in [Arc::new(Plan::unmasked(Limits::default())), text_plan(None)] {
            let passed = arrow_masked(&plan, &sent, &[usize::MAX]).unwrap();
            assert!(!holds(&passed, canary), "{:?}", array.data_type());
            assert_eq!(&read(&passed)[0].column(0).to_data(), &array.to_data(), "the same values");
        }
    }
}

/// A list of structs of a text and a number, one row.
fn nested() -> Vec<u8> {
    let mails: ArrayRef = Arc::new(StringArray::from(vec!["kanarie@example.com", "ok"]));
    let cards: ArrayRef = Arc::new(Int64Array::from(vec![Some(4_111_111_111_111_111), None]));
    let fields = vec![Field::new("m", DataType::Utf8, true), Field::new("c", DataType::Int64, true)];
    let items = StructArray::new(fields.into(), vec![mails, cards], None);
    let child = Arc::new(Field::new("element", items.data_type().clone(), true));
    let list = ListArray::new(child, OffsetBuffer::new(vec![0, 2].into()), Arc::new(items), None);
    one("A", "ARRAY", Arc::new(list))
}

fn nested_plan() -> Arc<Plan> {
    let column = Column::masked("A", ColumnType::Semistructured, scan());
    Arc::new(Plan::new(vec![column], Limits::default()).unwrap())
}

/// Structured values: texts and numbers at every level.
#[test]
fn nested_columns_are_scanned() {
    let masked = arrow_masked(&nested_plan(), &nested(), &[usize::MAX]).unwrap();
    assert!(!holds(&masked, CANARY));
    let masked = read(&masked);
    let items = masked[0].column(0).as_list::<i32>().values().as_struct();
    assert_eq!(items.column(0).as_string::<i32>().iter().collect::<Vec<_>>(), [Some("[redacted:email]"), Some("ok")]);
    assert_eq!(items.column(1).as_primitive::<Int64Type>().iter().collect::<Vec<_>>(), [Some(0), None]);
}

#[test]
fn metadata_and_order_stay() {
    let rows = [Row { id: 7, name: None, amount: Some(1), phone: None, account: None, note: None, payload: None }];
    let sent = stream(&[batch(&rows)]);
    let masked = read(&arrow_masked(&plan(Limits::default()), &sent, &[usize::MAX]).unwrap());
    let masked = masked[0].schema();
    for (came, left) in schema().fields().iter().zip(masked.fields()) {
        assert_eq!(
            (came.name(), came.metadata(), came.is_nullable()),
            (left.name(), left.metadata(), left.is_nullable())
        );
        if came.name() != "AMOUNT" {
            assert_eq!(came.data_type(), left.data_type());
        }
    }
    assert_eq!(masked.field(2).data_type(), &DataType::Int64);
}

#[test]
fn foreign_arrow_is_withheld() {
    let text = || -> ArrayRef { Arc::new(StringArray::from(vec!["kanarie"])) };
    let masked = text_plan(Some(tokenize()));
    let plain = text_plan(None);
    let other_type = "the result is not the one that was decided: a masked column has another type";
    assert_eq!(refused(&masked, &one("A", "VARIANT", text())), other_type);
    let number: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    assert_eq!(refused(&masked, &one("A", "TEXT", number)), other_type);
    for plan in [&masked, &plain] {
        assert_eq!(
            refused(plan, &one("B", "TEXT", text())),
            "the result is not the one that was decided: a column has another name"
        );
        assert_eq!(
            refused(plan, &stream(&[batch(&[])])),
            "the result is not the one that was decided: it has another number of columns"
        );
        let dictionary: DictionaryArray<Int32Type> = ["kanarie"].into_iter().collect();
        assert_eq!(
            refused(plan, &one("A", "TEXT", Arc::new(dictionary))),
            "the result uses what is not masked safely: a dictionary"
        );
        let sent = one("A", "TEXT", text());
        assert_eq!(
            refused(plan, &[&sent[..], b"kanarie"].concat()),
            "the result cannot be read: it goes on after its end"
        );
        assert_eq!(refused(plan, &sent[..sent.len() - 20]), "the result cannot be read: it is cut");
        assert_eq!(refused(plan, b"ARROW1\0\0"), "the result cannot be read: it is no Arrow stream");
        assert_eq!(refused(plan, &[0xff; 8]), "the result cannot be read: a message's length is negative");
        assert_eq!(
            refused(plan, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]),
            "the result is over a limit: a message's head of more than 4194304"
        );
        // The end mark alone, and nothing at all.
        assert_eq!(refused(plan, &[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]), "the result cannot be read: it has no schema");
        assert_eq!(arrow_masked(plan, b"", &[1]), Ok(Vec::new()));
    }
}

#[test]
fn limits_of_arrow_hold() {
    let text: ArrayRef = Arc::new(StringArray::from(vec!["kanarie"; 100]));
    let sent = one("A", "TEXT", text);
    for (limits, wanted) in [
        (Limits { body_bytes_max: 500, ..Limits::default() }, "a batch's body of more than 500"),
        (Limits { batch_rows_max: 99, ..Limits::default() }, "rows in a batch of more than 99"),
        (Limits { body_bytes_max: 2000, ..Limits::default() }, "a masked column of more than 2000"),
    ] {
        let plan = Plan::new(vec![Column::masked("A", TEXT, tokenize())], limits).unwrap();
        assert_eq!(refused(&Arc::new(plan), &sent), format!("the result is over a limit: {wanted}"));
    }
}

/// After an error there is nothing more, whatever is pushed.
#[test]
fn an_error_is_the_end() {
    let mut arrow = ArrowMasker::new(text_plan(Some(scan())));
    assert!(arrow.push(b"nonsense").is_err());
    assert_eq!(arrow.push(&one("A", "TEXT", Arc::new(StringArray::from(vec!["a"])))), Err(MaskingError::Over));
    assert_eq!(arrow.finish(), Err(MaskingError::Over));
    let mut json = JsonMasker::new(text_plan(Some(scan())), Shape::Chunk);
    assert!(json.push(b"{").is_err());
    assert_eq!(json.push(br#"["a"]"#), Err(MaskingError::Over));
    assert_eq!(json.finish(), Err(MaskingError::Over));

    let mut json = JsonMasker::new(text_plan(Some(scan())), Shape::Chunk);
    assert_eq!(json.finish(), Ok(Vec::new()));
    assert_eq!(json.push(br#"["a"]"#), Err(MaskingError::Over));
}

#[test]
fn json_is_read_strictly() {
    let plan = Arc::new(
        Plan::new(vec![Column::plain("A", TEXT), Column::masked("B", TEXT, scan())], Limits::default()).unwrap(),
    );
    let chunk =
        |text: &str| json_masked(&plan, Shape::Chunk, text.as_bytes(), &[1]).map(|out| String::from_utf8(out).unwrap());
    for passes in ["", r#"["a","b"]"#, r#"["\u00e9\"",null] , [null,"b"]"#, " [ \"a\" , \"b\" ]\n"] {
        assert_eq!(chunk(passes).unwrap(), passes);
    }
    assert_eq!(chunk(r#"["a@b.cd","a\u0040b.cd"]"#).unwrap(), r#"["a@b.cd","[redacted:email]"]"#);
    for fails in [
        r#"["a"]"#,
        r#"["a","b","c"]"#,
        "[]",
        r#"["a",1]"#,
        r#"["a",true]"#,
        r#"["a",nul]"#,
        r#"["a",["b"]]"#,
        r#"["a",{}]"#,
        r#"["a","b"],"#,
        r#"["a","b"]["a","b"]"#,
        r#"["a","b""#,
        r#"["a","\x"]"#,
        r#"["a","\ud800"]"#,
        "[\"a\",\"\n\"]",
        r#"[["a","b"]]"#,
        r#"[,"b"]"#,
        r#"["a",]"#,
        "null",
    ] {
        assert!(chunk(fails).is_err(), "{fails}");
    }
    assert!(json_masked(&plan, Shape::Chunk, b"[\"a\",\"\xff\"]", &[1]).is_err());
    let rowset = |text: &str| json_masked(&plan, Shape::Rowset, text.as_bytes(), &[3]);
    for (text, passes) in
        [("[]", true), (r#"[["a","b"]] "#, true), (r#"["a","b"]"#, false), ("[] []", false), ("[", false)]
    {
        assert_eq!(rowset(text).is_ok(), passes, "{text}");
    }
}

/// A cell over the limit is redacted whole and held nowhere.
#[test]
fn long_cells_are_redacted_whole() {
    let limits = Limits { cell_bytes_max: 8, ..Limits::default() };
    let columns = vec![Column::masked("A", TEXT, tokenize()), Column::masked("B", ColumnType::Semistructured, scan())];
    let plan = Arc::new(Plan::new(columns, limits).unwrap());
    let long = "k".repeat(9);
    let masked = json_masked(&plan, Shape::Chunk, format!(r#"["{long}","{long}"],[null,"[1]"]"#).as_bytes(), &[2]);
    assert_eq!(String::from_utf8(masked.unwrap()).unwrap(), r#"["[redacted]","\"[redacted]\""],[null,"[1]"]"#);

    let plan = Arc::new(Plan::new(vec![Column::masked("A", TEXT, tokenize())], limits).unwrap());
    let sent = one("A", "TEXT", Arc::new(StringArray::from(vec![long.as_str()])));
    let masked = read(&arrow_masked(&plan, &sent, &[usize::MAX]).unwrap());
    assert_eq!(masked[0].column(0).as_string::<i32>().value(0), "[redacted]");
}

#[test]
fn widths_hold() {
    let narrow = ColumnType::Text { chars_max: Some(14) };
    for (mask, cell, wanted) in [
        (tokenize(), "ada", None),
        (scan(), "call a@b.cd", Some("[redacted]")),
        (fpe(Alphabet::Digits), "12345", Some("***")),
        (fpe(Alphabet::Digits), "no digits", Some("***")),
    ] {
        let plan = Arc::new(Plan::new(vec![Column::masked("A", narrow, mask)], Limits::default()).unwrap());
        let masked = json_masked(&plan, Shape::Chunk, format!(r#"["{cell}"]"#).as_bytes(), &[9]).unwrap();
        let masked: Vec<String> = serde_json::from_slice(&masked).unwrap();
        assert!(masked[0].chars().count() <= 14 && masked[0] != cell, "{masked:?}");
        if let Some(wanted) = wanted {
            assert_eq!(masked[0], wanted);
        }
    }
}

/// The same value, key and domain, the same token; another of any of them, another token.
#[test]
fn tokens_depend_on_value_key_and_domain() {
    let other = KeyRing::parse("crm 2 //////////////////////////////////////////8=").unwrap().current("crm").unwrap();
    let token = |key: Arc<Key>, domain: &str, value: &str| {
        let mask = Mask::Tokenize { key, domain: domain.into() };
        let plan = Arc::new(Plan::new(vec![Column::masked("A", TEXT, mask)], Limits::default()).unwrap());
        json_masked(&plan, Shape::Chunk, format!(r#"["{value}"]"#).as_bytes(), &[usize::MAX]).unwrap()
    };
    assert_eq!(token(key(), "D", "ada"), token(key(), "D", "ada"));
    assert_ne!(token(key(), "D", "ada"), token(key(), "D", "bob"));
    assert_ne!(token(key(), "D", "ada"), token(key(), "E", "ada"));
    assert_ne!(token(key(), "D", "ada"), token(other, "D", "ada"));
    assert_ne!(token(key(), "D", "ada"), token(key(), "Da", "da"));
}

#[test]
fn masks_are_held_against_types() {
    let why = |column_type, mask| match Plan::new(vec![Column::masked("A", column_type, mask)], Limits::default()) {
        Ok(_) => "fits".to_owned(),
        Err(error) => error.to_string(),
    };
    assert_eq!(why(TEXT, tokenize()), "fits");
    assert_eq!(
        why(ColumnType::Other, tokenize()),
        "column 1 cannot be masked by `tokenize`: it keeps the type of text and numbers only"
    );
    assert_eq!(
        why(ColumnType::Fixed { precision: 11, scale: 0 }, tokenize()),
        "column 1 cannot be masked by `tokenize`: a number needs at least 12 digits; `fpe` takes 6"
    );
    assert_eq!(
        why(ColumnType::Text { chars_max: Some(12) }, tokenize()),
        "column 1 cannot be masked by `tokenize`: text needs at least 13 characters"
    );
    assert_eq!(
        why(ColumnType::Fixed { precision: 5, scale: 0 }, fpe(Alphabet::Digits)),
        "column 1 cannot be masked by `fpe`: a number needs at least 6 digits, a million values, to hide among"
    );
    assert_eq!(why(WIDE, scan()), "column 1 cannot be masked by `scan`: it reads text and semi-structured columns");
    assert_eq!(
        why(TEXT, Mask::Tokenize { key: key(), domain: String::new() }),
        "column 1 cannot be masked by `tokenize`: its domain needs 1 to 1024 bytes"
    );
    assert_eq!(Plan::new(Vec::new(), Limits::default()).unwrap_err(), PlanError::NoColumns);
    assert_eq!(ColumnType::parse("fixed", Some(38), Some(2), None), Ok(ColumnType::Fixed { precision: 38, scale: 2 }));
    assert!(ColumnType::parse("fixed", None, None, None).is_err());
    assert!(ColumnType::parse("FIXED", Some(3), Some(4), None).is_err());
    assert_eq!(ColumnType::parse("timestamp_ntz", None, Some(9), None), Ok(ColumnType::Other));
}
