//! Columns that pass, made so that nothing that nobody is shown is left in them. Values without a hidden one among them stay where
//! they are: the writer takes no byte around them.

use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef, ArrowPrimitiveType, BinaryArray, BooleanArray, FixedSizeListArray, ListArray, MapArray,
    PrimitiveArray, StringArray, StructArray,
    cast::AsArray,
    types::{Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type},
};
use arrow_buffer::{BooleanBuffer, Buffer, NullBuffer};
use arrow_schema::DataType;

use crate::MaskingError;

const DAMAGED: MaskingError = MaskingError::Unreadable("a nested column is damaged");

/// The same values, and nothing under a NULL, of a hidden slot or around them. `shown` says which slots a level above shows;
/// nothing: all. Validity stays as it came, so that hidden slots of columns that have no NULL are empty and not NULL.
pub(super) fn rebuilt(array: &ArrayRef, shown: Option<&NullBuffer>) -> Result<ArrayRef, MaskingError> {
    let shown = NullBuffer::union(array.nulls(), shown);
    let shown = shown.as_ref();
    let nulls = array.nulls().map(anew);
    Ok(match array.data_type() {
        DataType::Int8 => numbers::<Int8Type>(array, shown, nulls)?,
        DataType::Int16 => numbers::<Int16Type>(array, shown, nulls)?,
        DataType::Int32 => numbers::<Int32Type>(array, shown, nulls)?,
        DataType::Int64 => numbers::<Int64Type>(array, shown, nulls)?,
        DataType::Float32 => numbers::<Float32Type>(array, shown, nulls)?,
        DataType::Float64 => numbers::<Float64Type>(array, shown, nulls)?,
        DataType::Date32 => numbers::<Date32Type>(array, shown, nulls)?,
        DataType::Decimal128(..) => numbers::<Decimal128Type>(array, shown, nulls)?,
        DataType::Boolean => {
            let values = array.as_boolean().values();
            let values = shown.map_or_else(|| values.clone(), |shown| values & shown.inner());
            Arc::new(BooleanArray::new(bits_anew(&values), nulls))
        }
        DataType::Utf8 => {
            let values: &StringArray = array.as_string();
            let (offsets, bytes, _) = if hides(shown, values.value_offsets()) {
                let cells = (0..array.len()).map(|at| if is(shown, at) { values.value(at) } else { "" });
                StringArray::from_iter_values(cells).into_parts()
            } else {
                values.clone().into_parts()
            };
            Arc::new(StringArray::try_new(offsets, bytes, nulls).map_err(|_| DAMAGED)?)
        }
        DataType::Binary => {
            let values: &BinaryArray = array.as_binary();
            let (offsets, bytes, _) = if hides(shown, values.value_offsets()) {
                let cells = (0..array.len()).map(|at| if is(shown, at) { values.value(at) } else { &[] });
                BinaryArray::from_iter_values(cells).into_parts()
            } else {
                values.clone().into_parts()
            };
            Arc::new(BinaryArray::try_new(offsets, bytes, nulls).map_err(|_| DAMAGED)?)
        }
        DataType::List(child) => {
            let list: &ListArray = array.as_list();
            let elements = in_lists(list.value_offsets(), list.values().len(), shown);
            let values = rebuilt(list.values(), Some(&elements))?;
            let list = ListArray::try_new(Arc::clone(child), list.offsets().clone(), values, nulls);
            Arc::new(list.map_err(|_| DAMAGED)?)
        }
        DataType::Map(child, sorted) => {
            let map: &MapArray = array.as_map();
            let elements = in_lists(map.value_offsets(), map.entries().len(), shown);
            let entries: ArrayRef = Arc::new(map.entries().clone());
            let entries = rebuilt(&entries, Some(&elements))?;
            let entries = entries.as_struct_opt().ok_or(DAMAGED)?.clone();
            let map = MapArray::try_new(Arc::clone(child), map.offsets().clone(), entries, nulls, *sorted);
            Arc::new(map.map_err(|_| DAMAGED)?)
        }
        DataType::FixedSizeList(child, width) => {
            let list: &FixedSizeListArray = array.as_fixed_size_list();
            let each = usize::try_from(*width).map_err(|_| DAMAGED)?;
            let elements = shown.map(|shown| shown.expand(each));
            let values = rebuilt(list.values(), elements.as_ref())?;
            let list = FixedSizeListArray::try_new(Arc::clone(child), *width, values, nulls);
            Arc::new(list.map_err(|_| DAMAGED)?)
        }
        DataType::Struct(fields) => {
            let columns = array.as_struct().columns().iter();
            let columns = columns.map(|column| rebuilt(column, shown)).collect::<Result<_, _>>()?;
            Arc::new(StructArray::try_new(fields.clone(), columns, nulls).map_err(|_| DAMAGED)?)
        }
        _ => return Err(MaskingError::Unsupported("an Arrow type that Snowflake is not known to send")),
    })
}

/// The same validity, and zeros after its end.
pub(super) fn anew(nulls: &NullBuffer) -> NullBuffer {
    NullBuffer::new(bits_anew(nulls.inner()))
}

fn bits_anew(bits: &BooleanBuffer) -> BooleanBuffer {
    let words: Vec<u64> = bits.bit_chunks().iter_padded().collect();
    BooleanBuffer::new(Buffer::from_vec(words), 0, bits.len())
}

fn is(shown: Option<&NullBuffer>, at: usize) -> bool {
    shown.is_none_or(|shown| shown.is_valid(at))
}

/// Whether a slot that is not shown has bytes. Under a NULL there seldom are any.
fn hides(shown: Option<&NullBuffer>, offsets: &[i32]) -> bool {
    let is_empty = |at: usize| matches!(offsets.get(at..at + 2), Some([from, to]) if from == to);
    shown.is_some_and(|shown| !hidden(shown).set_indices().all(is_empty))
}

/// The slots that are not shown.
fn hidden(shown: &NullBuffer) -> BooleanBuffer {
    !shown.inner()
}

fn numbers<T: ArrowPrimitiveType>(
    array: &ArrayRef,
    shown: Option<&NullBuffer>,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef, MaskingError> {
    let Some(shown) = shown else { return Ok(Arc::clone(array)) };
    let mut values = array.as_primitive::<T>().values().to_vec();
    for at in hidden(shown).set_indices() {
        values.get_mut(at).into_iter().for_each(|value| *value = T::default_value());
    }
    let rebuilt = PrimitiveArray::<T>::try_new(values.into(), nulls).map_err(|_| DAMAGED)?;
    Ok(Arc::new(rebuilt.with_data_type(array.data_type().clone())))
}

/// Which elements are in a list that is shown.
fn in_lists(offsets: &[i32], elements: usize, shown: Option<&NullBuffer>) -> NullBuffer {
    let mut inside = vec![false; elements];
    for (at, ends) in offsets.windows(2).enumerate() {
        let range = match ends {
            [from, to] if is(shown, at) => usize::try_from(*from).ok().zip(usize::try_from(*to).ok()),
            _ => None,
        };
        let its = range.and_then(|(from, to)| inside.get_mut(from..to));
        its.into_iter().flatten().for_each(|element| *element = true);
    }
    inside.into()
}
