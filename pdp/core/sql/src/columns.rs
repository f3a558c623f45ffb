//! Sets of columns, small and quick to unite: every expression carries two of them.

/// A column of a catalogued relation, by its number among the columns that one statement read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ColumnId(u32);

impl ColumnId {
    pub(crate) fn numbered(number: usize) -> Option<Self> {
        u32::try_from(number).ok().map(Self)
    }

    /// Its place in the statement's table of columns.
    pub(crate) fn number(self) -> usize {
        self.0 as usize
    }
}

/// A set of columns. Few statements read more than fit into the first words, so uniting two sets allocates nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Columns {
    low: u128,
    /// Columns 128 and up, 64 a word. INVARIANT: the last word is not 0, so that equal sets compare equal.
    high: Vec<u64>,
}

const LOW: usize = u128::BITS as usize;
const WORD: usize = u64::BITS as usize;

impl Columns {
    pub(crate) const fn new() -> Self {
        Self { low: 0, high: Vec::new() }
    }

    pub(crate) fn insert(&mut self, id: ColumnId) {
        match id.number().checked_sub(LOW) {
            None => self.low |= 1 << id.number(),
            Some(above) => {
                if self.high.len() <= above / WORD {
                    self.high.resize(above / WORD + 1, 0);
                }
                if let Some(word) = self.high.get_mut(above / WORD) {
                    *word |= 1 << (above % WORD);
                }
            }
        }
    }

    pub(crate) fn contains(&self, id: ColumnId) -> bool {
        match id.number().checked_sub(LOW) {
            None => self.low >> id.number() & 1 == 1,
            Some(above) => self.high.get(above / WORD).is_some_and(|word| word >> (above % WORD) & 1 == 1),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.low == 0 && self.high.is_empty()
    }

    /// Adds all of another set.
    pub(crate) fn unite(&mut self, other: &Self) {
        self.low |= other.low;
        if self.high.len() < other.high.len() {
            self.high.resize(other.high.len(), 0);
        }
        for (word, other) in self.high.iter_mut().zip(&other.high) {
            *word |= other;
        }
    }

    /// In the order they were first read.
    pub(crate) fn iter(&self) -> impl Iterator<Item = ColumnId> {
        let mut low = self.low;
        let low = std::iter::from_fn(move || {
            let at = (low != 0).then(|| low.trailing_zeros())?;
            low &= low - 1;
            Some(ColumnId(at))
        });
        let high = self.high.iter().zip((u128::BITS..).step_by(WORD)).flat_map(|(&word, from)| {
            let mut word = word;
            std::iter::from_fn(move || {
                let at = (word != 0).then(|| word.trailing_zeros())?;
                word &= word - 1;
                Some(ColumnId(from + at))
            })
        });
        low.chain(high)
    }
}

impl From<ColumnId> for Columns {
    fn from(id: ColumnId) -> Self {
        let mut columns = Self::new();
        columns.insert(id);
        columns
    }
}

impl Extend<ColumnId> for Columns {
    fn extend<I: IntoIterator<Item = ColumnId>>(&mut self, ids: I) {
        for id in ids {
            self.insert(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{ColumnId, Columns};

    #[test]
    fn a_set_of_columns_is_a_set() {
        let numbers = [0, 1, 63, 64, 127, 128, 129, 191, 192, 500, 128, 0];
        let mut columns = Columns::new();
        assert!(columns.is_empty());
        columns.extend(numbers.map(ColumnId));
        let wanted: BTreeSet<ColumnId> = numbers.map(ColumnId).into();
        assert_eq!(columns.iter().collect::<BTreeSet<_>>(), wanted);
        for number in 0..600 {
            assert_eq!(columns.contains(ColumnId(number)), wanted.contains(&ColumnId(number)), "{number}");
        }
        let (mut few, one) = (Columns::from(ColumnId(3)), Columns::from(ColumnId(700)));
        few.unite(&columns);
        few.unite(&one);
        assert_eq!(few.iter().count(), wanted.len() + 2);
        assert!(few.contains(ColumnId(3)) && few.contains(ColumnId(700)) && !columns.contains(ColumnId(700)));
        let mut again = one.clone();
        again.unite(&columns);
        again.insert(ColumnId(3));
        assert_eq!(again, few, "whatever the order");
    }
}
