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
    /// Columns 128 and up, 64 a word, from the first word that is not 0 to the last: a set of one column is small whatever
    /// its number, and equal sets compare equal.
    high: Vec<u64>,
    /// The place of the first word of `high`.
    from: usize,
}

const LOW: usize = u128::BITS as usize;
const WORD: usize = u64::BITS as usize;

impl Columns {
    pub(crate) const fn new() -> Self {
        Self { low: 0, high: Vec::new(), from: 0 }
    }

    pub(crate) fn insert(&mut self, id: ColumnId) {
        match id.number().checked_sub(LOW) {
            None => self.low |= 1 << id.number(),
            Some(above) => {
                self.cover(above / WORD, above / WORD + 1);
                if let Some(word) = self.high.get_mut(above / WORD - self.from) {
                    *word |= 1 << (above % WORD);
                }
            }
        }
    }

    pub(crate) fn contains(&self, id: ColumnId) -> bool {
        match id.number().checked_sub(LOW) {
            None => self.low >> id.number() & 1 == 1,
            Some(above) => {
                let word = (above / WORD).checked_sub(self.from).and_then(|at| self.high.get(at));
                word.is_some_and(|word| word >> (above % WORD) & 1 == 1)
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.low == 0 && self.high.is_empty()
    }

    /// Adds all of another set.
    pub(crate) fn unite(&mut self, other: &Self) {
        self.low |= other.low;
        if other.high.is_empty() {
            return;
        }
        self.cover(other.from, other.from + other.high.len());
        for (word, other) in self.high.iter_mut().skip(other.from - self.from).zip(&other.high) {
            *word |= other;
        }
    }

    /// Makes room for these words, the first and last of which will not stay 0.
    fn cover(&mut self, from: usize, to: usize) {
        if self.high.is_empty() {
            self.from = from;
        }
        if from < self.from {
            self.high.splice(0..0, std::iter::repeat_n(0, self.from - from));
            self.from = from;
        }
        if self.from + self.high.len() < to {
            self.high.resize(to - self.from, 0);
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
        let high = self.high.iter().zip(self.from..).flat_map(|(&word, place)| {
            let mut word = word;
            std::iter::from_fn(move || {
                let at = (word != 0).then(|| word.trailing_zeros())?;
                word &= word - 1;
                ColumnId::numbered(LOW + place * WORD + at as usize)
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
