//! New inputs from old ones: a file of the corpus, changed in a few places. What fails is made smaller by proptest:
//! fewer changes, and simpler ones.

use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::sample::{Index, select};

/// No input grows beyond this.
const MOST_BYTES: usize = 4096;

/// Numbers at which something changes its size or its sign.
const NUMBERS: [&str; 10] = [
    "0",
    "-1",
    "65536",
    "4294967296",
    "9223372036854775807",
    "-9223372036854775808",
    "18446744073709551615",
    "1e308",
    "00",
    "",
];

/// A change of an input.
#[derive(Clone, Debug)]
enum Change {
    /// A byte is another.
    Byte(Index, u8),
    /// A byte more.
    Insert(Index, u8),
    /// Some bytes less.
    Remove(Index, usize),
    /// Some bytes several times.
    Repeat(Index, usize, usize),
    /// Some bytes of this file of the corpus more.
    Insertion(Index, Index, Index, usize),
    /// Nothing from here on.
    Cut(Index),
    /// The next run of digits is this number.
    Number(Index, &'static str),
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<Index>;
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(place, byte)| Change::Byte(place, byte)),
        (at(), any::<u8>()).prop_map(|(place, byte)| Change::Insert(place, byte)),
        (at(), 1..32_usize).prop_map(|(place, length)| Change::Remove(place, length)),
        (at(), 1..16_usize, 1..128_usize)
            .prop_map(|(place, length, times)| Change::Repeat(place, length, times)),
        (at(), at(), at(), 1..64_usize)
            .prop_map(|(place, file, from, length)| Change::Insertion(place, file, from, length)),
        at().prop_map(Change::Cut),
        (at(), select(&NUMBERS[..])).prop_map(|(place, number)| Change::Number(place, number)),
    ]
}

/// Inputs made of the files of a corpus; now and then any bytes.
pub(crate) fn inputs(corpus: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let start = prop_oneof![
        9 => select(corpus.clone()),
        1 => vec(any::<u8>(), 0..256),
        1 => Just(Vec::new()),
    ];
    (start, vec(change(), 0..8)).prop_map(move |(mut input, changes)| {
        changes.iter().for_each(|change| change.make(&mut input, &corpus));
        input
    })
}

impl Change {
    fn make(&self, input: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        let place = |index: &Index, input: &[u8]| index.index(input.len() + 1);
        match self {
            Self::Byte(at, byte) => {
                let at = place(at, input);
                if let Some(old) = input.get_mut(at) {
                    *old = *byte;
                }
            }
            Self::Insert(at, byte) => input.insert(place(at, input), *byte),
            Self::Remove(at, length) => {
                let at = place(at, input);
                input.drain(at..input.len().min(at + length));
            }
            Self::Repeat(at, length, times) => {
                let at = place(at, input);
                let part = input[at..input.len().min(at + length)].repeat(*times);
                input.splice(at..at, part);
            }
            Self::Insertion(at, file, from, length) => {
                let (at, file) = (place(at, input), file.get(corpus));
                let from = place(from, file);
                let part = file[from..file.len().min(from + length)].iter().copied();
                input.splice(at..at, part);
            }
            Self::Cut(at) => input.truncate(place(at, input)),
            Self::Number(at, number) => {
                let at = place(at, input);
                let is_digit = |byte: &u8| byte.is_ascii_digit();
                let start = input[at..].iter().position(is_digit).map_or(input.len(), |found| at + found);
                let length = input[start..].iter().take_while(|byte| is_digit(byte)).count();
                input.splice(start..start + length, number.bytes());
            }
        }
        input.truncate(MOST_BYTES);
    }
}
