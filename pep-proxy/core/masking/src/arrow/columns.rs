//! Masked columns: new arrays, and the fields that announce them.

use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef, BinaryArray, Decimal128Array, FixedSizeListArray, Int32Array, Int64Array, ListArray, MapArray,
    StringArray, StructArray,
    builder::StringBuilder,
    cast::AsArray,
    types::{ArrowPrimitiveType, Decimal128Type, Int8Type, Int16Type, Int32Type, Int64Type},
};
use arrow_buffer::OffsetBuffer;
use arrow_schema::{DataType, Field, FieldRef};

use super::{rebuild::anew, write_error};
use crate::{
    ColumnType, Limits, MaskingError,
    cell::{CellMask, TextMask, unencrypted},
    fpe::Encryptor,
    plan::PlannedColumn,
    token::{self, Tokenizer},
};

/// Digits that `int64` holds, whichever they are.
const INT64_DIGITS: u8 = 18;
/// Digits of the decimals Snowflake sends.
const DECIMAL_DIGITS: u8 = 38;

const OTHER_TYPE: MaskingError = MaskingError::Foreign("a masked column has another type");

/// The field as it is sent. Only a masked number's changes: it has one width in all batches and chunks, whatever widths came.
pub(super) fn masked_field(field: &FieldRef, column: &PlannedColumn) -> Result<FieldRef, MaskingError> {
    let Some(mask) = &column.mask else { return Ok(Arc::clone(field)) };
    let said = |key: &str| field.metadata().get(key).map(String::as_str);
    if !said("logicalType").is_some_and(|logical| column.column_type.is_called(logical)) {
        return Err(OTHER_TYPE);
    }
    match (mask, field.data_type()) {
        (CellMask::Text { .. }, DataType::Utf8) => {
            let ColumnType::Text { chars_max } = column.column_type else { return Err(OTHER_TYPE) };
            let narrower = |said: &str| said.parse().map_or(true, |said: u32| said < chars_max.unwrap_or(u32::MAX));
            if said("charLength").is_some_and(narrower) {
                return Err(MaskingError::Foreign("a masked column has another length"));
            }
            Ok(Arc::clone(field))
        }
        (CellMask::Document(_), DataType::Utf8 | DataType::List(_) | DataType::Map(..) | DataType::Struct(_)) => {
            Ok(Arc::clone(field))
        }
        (CellMask::Document(_), DataType::FixedSizeList(..)) => Ok(Arc::clone(field)),
        (CellMask::Number { precision, scale, .. }, came) => {
            let fits = match came {
                DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => true,
                DataType::Decimal128(_, arrow_scale) => u8::try_from(*arrow_scale) == Ok(*scale),
                _ => false,
            };
            let same = |key: &str, value: u8| said(key).is_none_or(|said| said.parse() == Ok(value));
            if !fits || !same("scale", *scale) || !same("precision", *precision) {
                return Err(OTHER_TYPE);
            }
            let (sent, physical) = number_type(*precision, *scale)?;
            let mut metadata = field.metadata().clone();
            if said("physicalType").is_some() {
                metadata.insert("physicalType".to_owned(), physical.to_owned());
            }
            Ok(Arc::new(Field::new(field.name(), sent, field.is_nullable()).with_metadata(metadata)))
        }
        _ => Err(OTHER_TYPE),
    }
}

fn number_type(precision: u8, scale: u8) -> Result<(DataType, &'static str), MaskingError> {
    let scale = i8::try_from(scale).map_err(|_| MaskingError::Foreign("a number's scale is too large"))?;
    Ok(match precision {
        ..=INT64_DIGITS => (DataType::Int64, "SB8"),
        _ => (DataType::Decimal128(DECIMAL_DIGITS, scale), "SB16"),
    })
}

/// The column anew.
pub(super) fn mask_array(mask: &CellMask, array: &ArrayRef, limits: &Limits) -> Result<ArrayRef, MaskingError> {
    match (mask, array.data_type()) {
        (CellMask::Number { how, precision, scale }, came) => {
            let mut masked = numbers(array, came)?;
            how.apply(masked.iter_mut().flatten().collect(), *precision)?;
            if *precision <= INT64_DIGITS {
                let narrow = |number: i128| {
                    i64::try_from(number).map_err(|_| MaskingError::Foreign("a number has more digits than its column"))
                };
                let masked = masked.into_iter().map(|number| number.map(narrow).transpose());
                return Ok(Arc::new(masked.collect::<Result<Int64Array, _>>()?));
            }
            let (sent, _) = number_type(*precision, *scale)?;
            Ok(Arc::new(Decimal128Array::from_iter(masked).with_data_type(sent)))
        }
        (CellMask::Text { how: TextMask::Token(tokenizer), chars_max }, DataType::Utf8)
            if array.as_string::<i32>().value_data().len() <= limits.cell_bytes_max =>
        {
            tokens(tokenizer, *chars_max, array.as_string(), limits)
        }
        (CellMask::Text { how: TextMask::Fpe(encryptor), chars_max }, DataType::Utf8)
            if array.as_string::<i32>().value_data().len() <= limits.cell_bytes_max =>
        {
            encrypted(encryptor, *chars_max, array.as_string(), limits)
        }
        (CellMask::Text { .. }, DataType::Utf8) => texts(array, limits, |cell, out| mask.text(cell, out), mask),
        (CellMask::Document(_), DataType::Utf8) => texts(array, limits, |cell, out| mask.text(cell, out), mask),
        (CellMask::Document(scanner), _) => nested(array, limits, mask, &mut |cell, out| scanner.redact(cell, out)),
        _ => Err(OTHER_TYPE),
    }
}

/// The column's unscaled numbers.
fn numbers(array: &ArrayRef, came: &DataType) -> Result<Vec<Option<i128>>, MaskingError> {
    fn of<T: ArrowPrimitiveType<Native: Into<i128>>>(array: &ArrayRef) -> Vec<Option<i128>> {
        array.as_primitive::<T>().iter().map(|number| number.map(Into::into)).collect()
    }
    Ok(match came {
        DataType::Int8 => of::<Int8Type>(array),
        DataType::Int16 => of::<Int16Type>(array),
        DataType::Int32 => of::<Int32Type>(array),
        DataType::Int64 => of::<Int64Type>(array),
        DataType::Decimal128(..) => of::<Decimal128Type>(array),
        _ => return Err(OTHER_TYPE),
    })
}

/// Texts as tokens, which are all of one length.
fn tokens(
    tokenizer: &Tokenizer,
    chars_max: Option<u32>,
    cells: &StringArray,
    limits: &Limits,
) -> Result<ArrayRef, MaskingError> {
    let chars = token::chars(chars_max);
    let bytes = (cells.len() - cells.null_count()) * chars;
    if bytes > limits.body_bytes_max {
        return Err(MaskingError::TooLarge { what: "a masked column", limit: limits.body_bytes_max });
    }
    let mut masked = Vec::with_capacity(bytes);
    tokenizer.texts(cells.iter().flatten(), chars_max, |token| masked.extend_from_slice(token));
    in_place(cells, masked, std::iter::repeat(chars))
}

/// Texts encrypted, or what stands for those that cannot be.
fn encrypted(
    encryptor: &Encryptor,
    chars_max: Option<u32>,
    cells: &StringArray,
    limits: &Limits,
) -> Result<ArrayRef, MaskingError> {
    let unfit = unencrypted(chars_max);
    let (mut masked, mut lengths) = (Vec::with_capacity(cells.value_data().len()), Vec::with_capacity(cells.len()));
    encryptor.encrypt_texts(cells.iter().flatten(), |done| {
        let text = done.unwrap_or(unfit.as_bytes());
        masked.extend_from_slice(text);
        lengths.push(text.len());
    });
    if masked.len() > limits.body_bytes_max {
        return Err(MaskingError::TooLarge { what: "a masked column", limit: limits.body_bytes_max });
    }
    in_place(cells, masked, lengths)
}

/// Texts of these lengths, one after another in `masked`, where there was one; nothing under a NULL.
fn in_place(
    cells: &StringArray,
    masked: Vec<u8>,
    lengths: impl IntoIterator<Item = usize>,
) -> Result<ArrayRef, MaskingError> {
    let mut lengths = lengths.into_iter();
    let lengths = (0..cells.len()).map(|at| if cells.is_valid(at) { lengths.next().unwrap_or(0) } else { 0 });
    let masked = StringArray::try_new(OffsetBuffer::from_lengths(lengths), masked.into(), cells.nulls().map(anew));
    Ok(Arc::new(masked.map_err(write_error)?))
}

/// Texts anew: offsets and bytes of the masked cells only, nothing under a NULL.
fn texts(
    array: &ArrayRef,
    limits: &Limits,
    mut apply: impl FnMut(&str, &mut String) -> Result<(), MaskingError>,
    mask: &CellMask,
) -> Result<ArrayRef, MaskingError> {
    let cells: &StringArray = array.as_string();
    let mut masked = StringBuilder::with_capacity(cells.len(), cells.value_data().len().min(limits.body_bytes_max));
    let (mut cell, mut bytes) = (String::new(), 0_usize);
    for text in cells {
        let Some(text) = text else {
            masked.append_null();
            continue;
        };
        cell.clear();
        if text.len() > limits.cell_bytes_max {
            mask.text_over_limit(&mut cell)?;
        } else {
            apply(text, &mut cell)?;
        }
        bytes += cell.len();
        if bytes > limits.body_bytes_max {
            return Err(MaskingError::TooLarge { what: "a masked column", limit: limits.body_bytes_max });
        }
        masked.append_value(&cell);
    }
    Ok(Arc::new(masked.finish()))
}

/// What a number in a nested value becomes when the scanner finds it.
const FOUND_NUMBER: i128 = 0;

/// A nested column anew: texts scanned wherever they are, even under a NULL; numbers that the scanner finds become 0.
fn nested(
    array: &ArrayRef,
    limits: &Limits,
    mask: &CellMask,
    redact: &mut dyn FnMut(&str, &mut String),
) -> Result<ArrayRef, MaskingError> {
    const DAMAGED: MaskingError = MaskingError::Unreadable("a nested column is damaged");
    let nulls = array.nulls().map(anew);
    match array.data_type() {
        DataType::Utf8 => {
            // Every slot is looked at: the bytes under a NULL of a level above are still sent.
            let apply = |cell: &str, out: &mut String| {
                redact(cell, out);
                Ok(())
            };
            texts(array, limits, apply, mask)
        }
        DataType::List(child) => {
            let list: &ListArray = array.as_list();
            let values = nested(list.values(), limits, mask, redact)?;
            let masked = ListArray::try_new(Arc::clone(child), list.offsets().clone(), values, nulls);
            Ok(Arc::new(masked.map_err(|_| DAMAGED)?))
        }
        DataType::FixedSizeList(child, width) => {
            let list: &FixedSizeListArray = array.as_fixed_size_list();
            let values = nested(list.values(), limits, mask, redact)?;
            let masked = FixedSizeListArray::try_new(Arc::clone(child), *width, values, nulls);
            Ok(Arc::new(masked.map_err(|_| DAMAGED)?))
        }
        DataType::Map(child, sorted) => {
            let map: &MapArray = array.as_map();
            let entries: ArrayRef = Arc::new(map.entries().clone());
            let entries = nested(&entries, limits, mask, redact)?;
            let entries = entries.as_struct_opt().ok_or(DAMAGED)?.clone();
            let masked = MapArray::try_new(Arc::clone(child), map.offsets().clone(), entries, nulls, *sorted);
            Ok(Arc::new(masked.map_err(|_| DAMAGED)?))
        }
        DataType::Struct(fields) => {
            let columns = array.as_struct().columns().iter();
            let columns = columns.map(|column| nested(column, limits, mask, redact)).collect::<Result<_, _>>()?;
            Ok(Arc::new(StructArray::try_new(fields.clone(), columns, nulls).map_err(|_| DAMAGED)?))
        }
        came @ (DataType::Int32 | DataType::Int64 | DataType::Decimal128(..)) => nested_numbers(array, came, redact),
        DataType::Binary => Ok(Arc::new(array.as_binary::<i32>().iter().collect::<BinaryArray>())),
        // Times, fractions and small numbers: nothing a pattern is for.
        _ => Ok(Arc::clone(array)),
    }
}

fn nested_numbers(
    array: &ArrayRef,
    came: &DataType,
    redact: &mut dyn FnMut(&str, &mut String),
) -> Result<ArrayRef, MaskingError> {
    let mut scanned = numbers(array, came)?;
    let mut redacted = String::new();
    for number in scanned.iter_mut().flatten() {
        let text = number.to_string();
        redacted.clear();
        redact(&text, &mut redacted);
        if redacted != text {
            *number = FOUND_NUMBER;
        }
    }
    Ok(match came {
        DataType::Decimal128(..) => Arc::new(Decimal128Array::from_iter(scanned).with_data_type(came.clone())),
        DataType::Int64 => {
            let narrow = scanned.into_iter().map(|number| number.and_then(|number| i64::try_from(number).ok()));
            Arc::new(narrow.collect::<Int64Array>())
        }
        _ => {
            let narrow = scanned.into_iter().map(|number| number.and_then(|number| i32::try_from(number).ok()));
            Arc::new(narrow.collect::<Int32Array>())
        }
    })
}
