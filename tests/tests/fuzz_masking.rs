//! Any bytes where a masked result is expected: nothing of a masked column passes, however they are broken and cut.

#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, reason = "tests may")]

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock},
};

use arrow::{
    array::{Int64Array, RecordBatch, StringArray},
    datatypes::{DataType, Field, Schema},
    ipc::writer::StreamWriter,
};
use icegate_pdp_model::{Alphabet as ModelAlphabet, Detector as ModelDetector};
use icegate_pep_masking::{
    Alphabet, ArrowMasker, Column, ColumnType, Detector, JsonMasker, KeyRing, Limits, Mask, MaskingError, Plan, Shape,
};
use icegate_tests::{
    fuzz::{bytes, mutated_bytes, mutated_lines},
    fuzz_target,
    generated::Dice,
};

/// Every value of the masked columns is this, and no other column has it. Both masks hide whatever a broken stream makes of it.
const CANARY: &str = "kanarie@example.com";
const KEYS: &str =
    "crm 2 AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n# old\ncrm 1 //////////////////////////////////////////8=\n";

static PLAN: LazyLock<Arc<Plan>> = LazyLock::new(|| {
    let key = KeyRing::parse(KEYS).unwrap().current("crm").unwrap();
    let text = ColumnType::Text { chars_max: Some(200) };
    let columns = vec![
        Column::plain("ID", ColumnType::Fixed { precision: 18, scale: 0 }),
        Column::masked("NAME", text, Mask::Tokenize { key: Arc::clone(&key), domain: "D".into() }),
        Column::masked("NOTE", text, Mask::Fpe { key, domain: "D".into(), alphabet: Alphabet::Lower }),
    ];
    Arc::new(Plan::new(columns, Limits::default()).unwrap())
});

static ARROW: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let field = |name: &str, logical: &str, data_type| {
        let logical = HashMap::from([("logicalType".to_owned(), logical.to_owned())]);
        Field::new(name, data_type, true).with_metadata(logical)
    };
    let schema = Arc::new(Schema::new(vec![
        field("ID", "FIXED", DataType::Int64),
        field("NAME", "TEXT", DataType::Utf8),
        field("NOTE", "TEXT", DataType::Utf8),
    ]));
    let texts = || Arc::new(StringArray::from(vec![Some(CANARY), None, Some(CANARY)]));
    let ids = Arc::new(Int64Array::from(vec![1, 2, 3]));
    let batch = RecordBatch::try_new(Arc::clone(&schema), vec![ids, texts(), texts()]).unwrap();
    let mut stream = StreamWriter::try_new(Vec::new(), &schema).unwrap();
    stream.write(&batch).unwrap();
    stream.write(&batch).unwrap();
    stream.into_inner().unwrap()
});

fn rows() -> String {
    format!(r#"["1","{CANARY}","{CANARY}"],["2",null,null],["3","{CANARY}","see {CANARY}"]"#)
}

/// What came out before the error, if there was one, and whether there was.
fn masked(mut push: impl FnMut(Option<&[u8]>) -> Result<Vec<u8>, MaskingError>, pieces: &[&[u8]]) -> (Vec<u8>, bool) {
    let mut out = Vec::new();
    for piece in pieces.iter().map(|piece| Some(*piece)).chain([None]) {
        let Ok(bytes) = push(piece) else {
            assert!(push(Some(b"[")).is_err(), "after an error nothing more comes");
            return (out, false);
        };
        out.extend(bytes);
    }
    (out, true)
}

/// The bytes in pieces of any length.
fn cut<'a>(bytes: &'a [u8], dice: &mut Dice) -> Vec<&'a [u8]> {
    let most = [1, 7, 64, bytes.len().max(1)];
    bytes.chunks(*dice.pick(&most)).collect()
}

fn holds_canary(bytes: &[u8]) -> bool {
    bytes.windows(CANARY.len()).any(|window| window == CANARY.as_bytes())
}

fn json(dice: &mut Dice) {
    for shape in [Shape::Chunk, Shape::Rowset] {
        let rows = if shape == Shape::Rowset { format!("[{}]", rows()) } else { rows() };
        let broken = mutated_bytes(rows.as_bytes(), dice);
        let run = |pieces: &[&[u8]]| {
            let mut masker = JsonMasker::new(Arc::clone(&PLAN), shape);
            masked(|piece| if let Some(piece) = piece { masker.push(piece) } else { masker.finish() }, pieces)
        };
        let (whole, good) = run(&[&broken]);
        let (in_pieces, good_in_pieces) = run(&cut(&broken, dice));
        assert_eq!(good, good_in_pieces, "{}", String::from_utf8_lossy(&broken));
        if good {
            assert_eq!(whole, in_pieces);
            let text = if shape == Shape::Rowset { whole } else { [b"[".as_slice(), &whole, b"]"].concat() };
            // Plain cells keep their bytes, sound or not: no driver reads past one that is not.
            let Ok(rows) = serde_json::from_slice::<Vec<Vec<Option<String>>>>(&text) else { continue };
            assert!(rows.iter().all(|row| row.len() == 3), "{rows:?}");
            // A plain cell may have come to hold it; the masked ones never do.
            for cell in rows.iter().flat_map(|row| &row[1..]).flatten() {
                assert!(!cell.contains(CANARY), "{cell}");
            }
        }
    }
}

fn arrow(dice: &mut Dice) {
    let broken = mutated_bytes(&ARROW, dice);
    let run = |pieces: &[&[u8]]| {
        let mut masker = ArrowMasker::new(Arc::clone(&PLAN));
        let mut run = |piece: Option<&[u8]>| if let Some(piece) = piece { masker.push(piece) } else { masker.finish() };
        masked(|piece| run(piece).map(|out| out.concat()), pieces)
    };
    let (whole, good) = run(&[&broken]);
    let (in_pieces, good_in_pieces) = run(&cut(&broken, dice));
    assert_eq!(good, good_in_pieces);
    for out in [whole, in_pieces] {
        assert!(!holds_canary(&out));
    }
}

fn key_files(dice: &mut Dice) {
    let text = if dice.one_in(4) {
        String::from_utf8_lossy(&bytes(dice, 200)).into_owned()
    } else {
        mutated_lines(KEYS, dice)
    };
    if let Ok(ring) = KeyRing::parse(&text) {
        let lines = text.lines().filter(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'));
        assert_eq!(ring.keys().count(), lines.count(), "each line is a key: {text:?}");
    }
}

fuzz_target!(json_rows_never_pass_unmasked, 4000, json);
fuzz_target!(arrow_streams_never_pass_unmasked, 3000, arrow);
fuzz_target!(key_files_are_read_strictly, 2000, key_files);

#[test]
fn policies_and_proxy_use_the_same_words() {
    let said: Vec<&str> = ModelDetector::ALL.iter().map(|it| it.as_str()).collect();
    assert_eq!(Detector::ALL.map(Detector::as_str).to_vec(), said);
    let said: Vec<&str> = ModelAlphabet::ALL.iter().map(|it| it.as_str()).collect();
    assert_eq!(Alphabet::ALL.map(Alphabet::as_str).to_vec(), said);
}
