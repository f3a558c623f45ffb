//! Columns that pass, built anew: nothing that nobody is shown is left in them.

use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef, ArrowPrimitiveType, BinaryArray, BooleanArray, FixedSizeListArray, ListArray, MapArray,
    PrimitiveArray, StringArray, StructArray,
    cast::AsArray,
    types::{Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type},
};
use arrow_buffer::NullBuffer;
use arrow_schema::DataType;

use crate::MaskingError;

const DAMAGED: MaskingError = MaskingError::Unreadable("a nested column is damaged");

/// The same values, and nothing under a NULL, of a hidden slot or around them. `shown` says which slots a level above shows;
/// nothing: all. Validity stays as it came, so that hidden slots of columns that have no NULL are empty and not NULL.
pub(super) fn rebuilt(array: &ArrayRef, shown: Option<&[bool]>) -> Result<ArrayRef, MaskingError> {
    let visible = |at: usize| array.is_valid(at) && shown.is_none_or(|shown| shown.get(at) == Some(&true));
    let nulls: Option<NullBuffer> = array.nulls().map(|nulls| nulls.iter().collect());
    Ok(match array.data_type() {
        DataType::Int8 => numbers::<Int8Type>(array, visible, nulls)?,
        DataType::Int16 => numbers::<Int16Type>(array, visible, nulls)?,
        DataType::Int32 => numbers::<Int32Type>(array, visible, nulls)?,
        DataType::Int64 => numbers::<Int64Type>(array, visible, nulls)?,
        DataType::Float32 => numbers::<Float32Type>(array, visible, nulls)?,
        DataType::Float64 => numbers::<Float64Type>(array, visible, nulls)?,
        DataType::Date32 => numbers::<Date32Type>(array, visible, nulls)?,
        DataType::Decimal128(..) => numbers::<Decimal128Type>(array, visible, nulls)?,
        DataType::Boolean => {
            let values = array.as_boolean();
            let values = (0..array.len()).map(|at| visible(at) && values.value(at)).collect();
            Arc::new(BooleanArray::new(values, nulls))
        }
        DataType::Utf8 => {
            let values: &StringArray = array.as_string();
            let values = (0..array.len()).map(|at| if visible(at) { values.value(at) } else { "" });
            let (offsets, bytes, _) = StringArray::from_iter_values(values).into_parts();
            Arc::new(StringArray::try_new(offsets, bytes, nulls).map_err(|_| DAMAGED)?)
        }
        DataType::Binary => {
            let values: &BinaryArray = array.as_binary();
            let values = (0..array.len()).map(|at| if visible(at) { values.value(at) } else { &[] });
            let (offsets, bytes, _) = BinaryArray::from_iter_values(values).into_parts();
            Arc::new(BinaryArray::try_new(offsets, bytes, nulls).map_err(|_| DAMAGED)?)
        }
        DataType::List(child) => {
            let list: &ListArray = array.as_list();
            let shown = in_lists(list.value_offsets(), list.values().len(), visible);
            let values = rebuilt(list.values(), Some(&shown))?;
            let list = ListArray::try_new(Arc::clone(child), list.offsets().clone(), values, nulls);
            Arc::new(list.map_err(|_| DAMAGED)?)
        }
        DataType::Map(child, sorted) => {
            let map: &MapArray = array.as_map();
            let shown = in_lists(map.value_offsets(), map.entries().len(), visible);
            let entries: ArrayRef = Arc::new(map.entries().clone());
            let entries = rebuilt(&entries, Some(&shown))?;
            let entries = entries.as_struct_opt().ok_or(DAMAGED)?.clone();
            let map = MapArray::try_new(Arc::clone(child), map.offsets().clone(), entries, nulls, *sorted);
            Arc::new(map.map_err(|_| DAMAGED)?)
        }
        DataType::FixedSizeList(child, width) => {
            let list: &FixedSizeListArray = array.as_fixed_size_list();
            let each = usize::try_from(*width).map_err(|_| DAMAGED)?;
            let shown: Vec<bool> = (0..array.len()).flat_map(|at| std::iter::repeat_n(visible(at), each)).collect();
            let values = rebuilt(list.values(), Some(&shown))?;
            let list = FixedSizeListArray::try_new(Arc::clone(child), *width, values, nulls);
            Arc::new(list.map_err(|_| DAMAGED)?)
        }
        DataType::Struct(fields) => {
            let shown: Vec<bool> = (0..array.len()).map(visible).collect();
            let columns = array.as_struct().columns().iter();
            let columns = columns.map(|column| rebuilt(column, Some(&shown))).collect::<Result<_, _>>()?;
            Arc::new(StructArray::try_new(fields.clone(), columns, nulls).map_err(|_| DAMAGED)?)
        }
        _ => return Err(MaskingError::Unsupported("an Arrow type that Snowflake is not known to send")),
    })
}

fn numbers<T: ArrowPrimitiveType>(
    array: &ArrayRef,
    visible: impl Fn(usize) -> bool,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef, MaskingError> {
    let values = array.as_primitive::<T>();
    let shown = (0..array.len()).map(|at| if visible(at) { values.value(at) } else { T::default_value() });
    let rebuilt = PrimitiveArray::<T>::try_new(shown.collect(), nulls).map_err(|_| DAMAGED)?;
    Ok(Arc::new(rebuilt.with_data_type(array.data_type().clone())))
}

/// Which elements are in a list that is shown.
fn in_lists(offsets: &[i32], elements: usize, visible: impl Fn(usize) -> bool) -> Vec<bool> {
    let mut shown = vec![false; elements];
    for (at, ends) in offsets.windows(2).enumerate() {
        let range = match ends {
            [from, to] if visible(at) => usize::try_from(*from).ok().zip(usize::try_from(*to).ok()),
            _ => None,
        };
        let its = range.and_then(|(from, to)| shown.get_mut(from..to));
        its.into_iter().flatten().for_each(|element| *element = true);
    }
    shown
}
