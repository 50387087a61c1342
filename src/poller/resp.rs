//! RESP2 and RESP3 replies, read from their bytes without a value tree.
//!
//! A [`Scanner`] finds the end of each reply while its bytes arrive, and holds the limits: what a server sends decides
//! neither the memory nor the stack that a reply takes. It keeps each value as its type, a number, and as many bytes as
//! the number states; a [`Value`] is a view of these, and the next value is found without walking this one.

/// The longest string that is kept. Of a longer one, such as a large field of an entry, only the length is.
const MAX_STRING: u64 = 64 * 1024;
/// The same in arrays of arrays, which hold the fields of entries.
const MAX_NESTED_STRING: u64 = 1024;
/// The number of arrays around a string from which on it is nested.
const NESTED: usize = 3;
/// The most values in one reply: 50,000 consumers have 450,000.
const MAX_VALUES: u64 = 1 << 19;
/// The most bytes that are kept of the replies to one pipeline.
const MAX_KEPT: usize = 8 << 20;
/// The most bytes of one reply; strings that are not kept count for a part. Until then a reply beyond the other limits
/// is read to its end, so that the connection survives it.
const MAX_READ: u64 = 256 << 20;
/// XINFO STREAM returns two entries, and each may have fields of 512 MiB.
const SKIPPED_IS_CHEAPER: u64 = 8;
/// The most digits of a number that is read in one step.
const MAX_SHORT_DIGITS: usize = 18;
/// The longest line: a number, a status, or an error.
const MAX_LINE: usize = 64 * 1024;
const MAX_DEPTH: usize = 32;

/// The types of values that are kept: those of RESP, and three more.
mod kind {
    pub(super) const INT: u8 = b':';
    pub(super) const TEXT: u8 = b'$';
    pub(super) const VERBATIM: u8 = b'=';
    pub(super) const ERROR: u8 = b'-';
    pub(super) const NIL: u8 = b'_';
    pub(super) const ARRAY: u8 = b'*';
    pub(super) const MAP: u8 = b'%';
    /// A string that was not kept: its number is its length.
    pub(super) const LONG_TEXT: u8 = b'^';
    /// A reply that was not kept.
    pub(super) const REFUSED: u8 = b'?';
    /// A value of another type.
    pub(super) const OTHER: u8 = b'.';
}

/// Size of a value's type and number.
const HEADER_BYTES: usize = 1 + size_of::<u64>();

/// The bytes are not RESP, or the reply has no end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(&'static str);

const NOT_RESP: Malformed = Malformed("it is not RESP");

#[derive(Clone, Copy, Debug, Default)]
enum ScanState {
    /// In a line, which begins with a type.
    #[default]
    Line,
    Text {
        left: u64,
        is_kept: bool,
    },
    /// In the line end after a string.
    TextEnd,
}

/// An array whose end has not arrived.
#[derive(Debug)]
struct OpenArray {
    /// Number of values to come.
    left: u64,
    /// Its position in the kept bytes of the reply.
    at: usize,
    /// True for an attribute of RESP3, which describes the value that follows it and is none itself.
    is_attribute: bool,
}

/// Finds the end of one reply after the other, and keeps them.
#[derive(Debug, Default)]
pub struct Scanner {
    state: ScanState,
    /// The part of a line that has arrived.
    line: Vec<u8>,
    open: Vec<OpenArray>,
    values: u64,
    read: u64,
    is_push: bool,
    is_refused: bool,
    kept: Vec<u8>,
    /// The position in `kept` where the current reply starts.
    start: usize,
}

/// The end of what was scanned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The input ended before the reply.
    Open,
    /// The reply ended.
    Reply,
    /// A push of RESP3 ended, which answers no command. Nothing of it is kept.
    Push,
}

impl Scanner {
    /// Scans the current reply, up to its end. Returns the number of bytes that it took from the input.
    ///
    /// # Errors
    ///
    /// The bytes are no reply, or one that is not worth reading to its end.
    pub fn scan(&mut self, input: &[u8]) -> Result<(usize, End), Malformed> {
        let mut at = 0;
        while at < input.len() {
            let (taken, is_complete) = match self.state {
                ScanState::Line if self.line.is_empty() => match self.scan_short_value(&input[at..])? {
                    Some(scanned) => scanned,
                    None => self.scan_line(&input[at..])?,
                },
                ScanState::Text { left, is_kept } => (self.scan_text(&input[at..], left, is_kept), false),
                ScanState::Line | ScanState::TextEnd => self.scan_line(&input[at..])?,
            };
            at += taken;
            if is_complete {
                return Ok((at, self.end_reply()));
            }
        }
        Ok((at, End::Open))
    }

    /// Returns the size of what is kept, in bytes.
    #[must_use]
    pub fn kept_bytes(&self) -> usize {
        self.kept.len()
    }

    /// Takes the replies that ended.
    pub fn take_replies(&mut self) -> Vec<u8> {
        let open = self.kept.split_off(self.start);
        self.start = 0;
        std::mem::replace(&mut self.kept, open)
    }

    fn end_reply(&mut self) -> End {
        (self.values, self.read) = (0, 0);
        let is_refused = std::mem::take(&mut self.is_refused);
        if std::mem::take(&mut self.is_push) {
            self.kept.truncate(self.start);
            return End::Push;
        }
        if is_refused {
            self.kept.extend_from_slice(&header(kind::REFUSED, 0));
        }
        self.start = self.kept.len();
        End::Reply
    }

    /// Scans a short string or integer in one step, if all of it is here, as nearly all are. Returns the number of bytes
    /// taken, and true if the reply ends with them; `None` for anything else.
    fn scan_short_value(&mut self, input: &[u8]) -> Result<Option<(usize, bool)>, Malformed> {
        let Some((kind @ (b'$' | b':'), rest)) = input.split_first() else { return Ok(None) };
        let (mut number, mut digits) = (0_u64, 0);
        while let Some(digit @ b'0'..=b'9') = rest.get(digits) {
            if digits == MAX_SHORT_DIGITS {
                return Ok(None);
            }
            (number, digits) = (10 * number + u64::from(digit - b'0'), digits + 1);
        }
        let Some((b"\r\n", rest)) = rest[digits..].split_first_chunk() else { return Ok(None) };
        let line = 1 + digits + 2;
        if digits == 0 {
            return Ok(None);
        }
        if *kind == b':' {
            self.values += 1;
            self.count_read(line as u64)?;
            self.keep(kind::INT, number, &[]);
            return Ok(Some((line, self.end_value())));
        }
        let length = usize::try_from(number).unwrap_or(usize::MAX);
        let Some((text, [b'\r', b'\n', ..])) = rest.split_at_checked(length) else { return Ok(None) };
        if number > MAX_NESTED_STRING || self.is_refused {
            return Ok(None);
        }
        self.values += 1;
        self.count_read(line as u64 + number)?;
        self.keep(kind::TEXT, number, text);
        Ok(Some((line + length + 2, self.end_value())))
    }

    fn scan_text(&mut self, input: &[u8], left: u64, is_kept: bool) -> usize {
        let taken = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
        if is_kept {
            self.append(&input[..taken]);
        }
        let left = left - taken as u64;
        self.state = if left > 0 { ScanState::Text { left, is_kept } } else { ScanState::TextEnd };
        taken
    }

    /// Returns the number of bytes taken, and true if the reply ends with them.
    fn scan_line(&mut self, input: &[u8]) -> Result<(usize, bool), Malformed> {
        let end = input.iter().position(|byte| *byte == b'\n');
        let taken = end.map_or(input.len(), |end| end + 1);
        if let (true, Some(_)) = (self.line.is_empty(), end) {
            // The whole line is here, as nearly all are.
            let line = &input[..taken];
            self.check_line(line)?;
            return Ok((taken, self.end_line(line)?));
        }
        self.line.extend_from_slice(&input[..taken]);
        self.check_line(&self.line)?;
        if end.is_none() {
            return Ok((taken, false));
        }
        let mut line = std::mem::take(&mut self.line);
        let is_complete = self.end_line(&line)?;
        line.clear();
        self.line = line;
        Ok((taken, is_complete))
    }

    /// Checks the part of a line that has arrived.
    fn check_line(&self, line: &[u8]) -> Result<(), Malformed> {
        let is_valid = match self.state {
            ScanState::Line => matches!(
                line[0],
                b'+' | b'-'
                    | b':'
                    | b','
                    | b'#'
                    | b'('
                    | b'_'
                    | b'$'
                    | b'='
                    | b'!'
                    | b'*'
                    | b'~'
                    | b'>'
                    | b'%'
                    | b'|'
            ),
            ScanState::Text { .. } | ScanState::TextEnd => line[0] == b'\r',
        };
        if is_valid && line.len() <= MAX_LINE { Ok(()) } else { Err(NOT_RESP) }
    }

    /// Takes a whole line. Returns true if the reply ends with it.
    fn end_line(&mut self, line: &[u8]) -> Result<bool, Malformed> {
        if matches!(self.state, ScanState::TextEnd) {
            self.state = ScanState::Line;
            return if line == b"\r\n" { Ok(self.end_value()) } else { Err(NOT_RESP) };
        }
        let [kind, text @ .., b'\r', b'\n'] = line else { return Err(NOT_RESP) };
        self.values += 1;
        self.is_push |= self.values == 1 && *kind == b'>';
        self.count_read(line.len() as u64)?;
        match kind {
            b'$' | b'*' if text == b"-1" => self.keep(kind::NIL, 0, &[]),
            b'_' => self.keep(kind::NIL, 0, &[]),
            b'+' => self.keep(kind::TEXT, text.len() as u64, text),
            b'-' => self.keep(kind::ERROR, text.len() as u64, text),
            b':' => match number::<i64>(text) {
                Some(integer) => self.keep(kind::INT, integer.cast_unsigned(), &[]),
                None if is_integer(text) => self.keep(kind::OTHER, 0, &[]),
                None => return Err(NOT_RESP),
            },
            b'$' => return self.begin_text(kind::TEXT, length(text)?),
            b'=' => return self.begin_text(kind::VERBATIM, length(text)?),
            b'!' => return self.begin_text(kind::ERROR, length(text)?),
            b'*' | b'~' => return self.begin_array(kind::ARRAY, length(text)?),
            b'%' => return self.begin_array(kind::MAP, 2 * length(text)?),
            b'>' => return self.begin_array(kind::OTHER, length(text)?),
            b'|' => return self.begin_attribute(2 * length(text)?),
            _ => self.keep(kind::OTHER, 0, &[]),
        }
        Ok(self.end_value())
    }

    fn begin_text(&mut self, kind: u8, length: u64) -> Result<bool, Malformed> {
        let most = if self.open.len() < NESTED { MAX_STRING } else { MAX_NESTED_STRING };
        let is_kept = length <= most && !self.is_refused;
        self.count_read(if is_kept { length } else { length / SKIPPED_IS_CHEAPER })?;
        self.keep(if is_kept { kind } else { kind::LONG_TEXT }, length, &[]);
        self.state = if length > 0 { ScanState::Text { left: length, is_kept } } else { ScanState::TextEnd };
        Ok(false)
    }

    fn begin_array(&mut self, kind: u8, values: u64) -> Result<bool, Malformed> {
        let at = self.kept.len() - self.start;
        self.keep(kind, 0, &[]);
        if values == 0 {
            return Ok(self.end_value());
        }
        self.open(OpenArray { left: values, at, is_attribute: false })
    }

    /// Begins an attribute. Nothing of it is kept.
    fn begin_attribute(&mut self, values: u64) -> Result<bool, Malformed> {
        let at = self.kept.len() - self.start;
        if values == 0 {
            return Ok(false);
        }
        self.open(OpenArray { left: values, at, is_attribute: true })
    }

    fn open(&mut self, array: OpenArray) -> Result<bool, Malformed> {
        if self.open.len() == MAX_DEPTH {
            return Err(Malformed("it is nested too deeply"));
        }
        self.open.push(array);
        Ok(false)
    }

    /// Ends a value and the arrays that end with it. Returns true if that ends the reply.
    fn end_value(&mut self) -> bool {
        while let Some(array) = self.open.last_mut() {
            array.left -= 1;
            if array.left > 0 {
                return false;
            }
            if array.is_attribute {
                self.kept.truncate(self.start + array.at);
                self.open.pop();
                return false;
            }
            if !self.is_refused {
                let kept = &mut self.kept[self.start + array.at..];
                let size = (kept.len() - HEADER_BYTES) as u64;
                kept[1..HEADER_BYTES].copy_from_slice(&size.to_le_bytes());
            }
            self.open.pop();
        }
        true
    }

    fn count_read(&mut self, bytes: u64) -> Result<(), Malformed> {
        self.read += bytes;
        if self.read > MAX_READ { Err(Malformed("it has too many bytes")) } else { Ok(()) }
    }

    fn keep(&mut self, kind: u8, number: u64, bytes: &[u8]) {
        if !self.is_refused {
            self.kept.reserve(HEADER_BYTES + bytes.len());
            self.kept.extend_from_slice(&header(kind, number));
        }
        self.append(bytes);
    }

    fn append(&mut self, bytes: &[u8]) {
        if !self.is_refused {
            self.kept.extend_from_slice(bytes);
        }
        if self.kept.len() > MAX_KEPT || self.values > MAX_VALUES {
            self.is_refused = true;
            self.kept.truncate(self.start);
        }
    }
}

fn header(kind: u8, number: u64) -> [u8; HEADER_BYTES] {
    let mut header = [kind; HEADER_BYTES];
    header[1..].copy_from_slice(&number.to_le_bytes());
    header
}

fn is_integer(text: &[u8]) -> bool {
    let digits = text.strip_prefix(b"-").or(text.strip_prefix(b"+")).unwrap_or(text);
    !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
}

fn length(text: &[u8]) -> Result<u64, Malformed> {
    // Nearly all have few digits.
    let digit = |length, byte: &u8| byte.is_ascii_digit().then(|| 10 * length + u64::from(byte - b'0'));
    match text.len() {
        1..=9 if text[0] != b'+' => text.iter().try_fold(0, digit).ok_or(NOT_RESP),
        _ => number(text).map(|length: u32| length.into()).ok_or(NOT_RESP),
    }
}

fn number<N: std::str::FromStr>(text: &[u8]) -> Option<N> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// A reply, or a part of one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Value<'a> {
    /// Nil.
    #[default]
    Nil,
    /// An integer.
    Int(i64),
    /// A string of any kind.
    Text(&'a [u8]),
    /// A string too long to be kept: its length.
    LongText(u64),
    /// An error.
    Error(ErrorReply<'a>),
    /// An array or a set.
    Array(Values<'a>),
    /// A map: names and values in turn.
    Map(Values<'a>),
    /// A reply beyond the limits.
    Refused,
    /// A value of another type, or an integer of more than 64 bits.
    Other,
}

impl<'a> Value<'a> {
    /// Returns what is kept of an array or a map: equal bytes are equal values. `None` for other values.
    #[must_use]
    pub fn kept_bytes(self) -> Option<&'a [u8]> {
        match self {
            Self::Array(values) | Self::Map(values) => Some(values.0),
            _ => None,
        }
    }
}

/// An error reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorReply<'a>(&'a [u8]);

impl<'a> ErrorReply<'a> {
    /// Returns the first word.
    #[must_use]
    pub fn code(self) -> &'a str {
        self.parts().0
    }

    /// Returns the text after the first word.
    #[must_use]
    pub fn detail(self) -> &'a str {
        self.parts().1
    }

    fn parts(self) -> (&'a str, &'a str) {
        let valid = |error: std::str::Utf8Error| std::str::from_utf8(&self.0[..error.valid_up_to()]);
        let text = std::str::from_utf8(self.0).or_else(valid).unwrap_or_default();
        text.split_once(' ').unwrap_or((text, ""))
    }
}

/// Iterates over values that follow each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Values<'a>(&'a [u8]);

impl<'a> Values<'a> {
    /// Iterates over replies that a [`Scanner`] kept.
    #[must_use]
    pub fn all(kept: &'a [u8]) -> Self {
        Self(kept)
    }
}

impl<'a> Iterator for Values<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        let (kind, rest) = self.0.split_first()?;
        let (number, rest) = rest.split_first_chunk()?;
        let number = u64::from_le_bytes(*number);
        let size = if matches!(*kind, kind::INT | kind::LONG_TEXT) { 0 } else { number };
        let (bytes, rest) = rest.split_at_checked(usize::try_from(size).ok()?)?;
        self.0 = rest;
        Some(match *kind {
            kind::INT => Value::Int(number.cast_signed()),
            kind::TEXT => Value::Text(bytes),
            // The first four bytes state the format.
            kind::VERBATIM => Value::Text(bytes.get(4..).unwrap_or_default()),
            kind::LONG_TEXT => Value::LongText(number),
            kind::ERROR => Value::Error(ErrorReply(bytes)),
            kind::NIL => Value::Nil,
            kind::ARRAY => Value::Array(Self(bytes)),
            kind::MAP => Value::Map(Self(bytes)),
            kind::REFUSED => Value::Refused,
            _ => Value::Other,
        })
    }
}

/// Returns what a [`Scanner`] keeps of whole replies.
///
/// # Errors
///
/// The input is no sequence of whole replies.
pub fn keep_all(input: &[u8]) -> Result<Vec<u8>, Malformed> {
    let (mut scanner, mut at, mut last) = (Scanner::default(), 0, End::Reply);
    while at < input.len() {
        let (taken, end) = scanner.scan(&input[at..])?;
        (at, last) = (at + taken, end);
    }
    if last == End::Open { Err(Malformed("it is cut off")) } else { Ok(scanner.take_replies()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(input: &str) -> Result<Vec<u8>, Malformed> {
        keep_all(input.as_bytes())
    }

    #[test]
    fn each_type_of_both_protocols_is_read() {
        let input = "+OK\r\n-ERR no such key\r\n:-7\r\n$2\r\n\r\n\r\n$-1\r\n*-1\r\n_\r\n=7\r\ntxt:abc\r\n!5\r\nA b c\r\n\
                     ,1.5\r\n#t\r\n(9999999999999999999999\r\n>1\r\n+push\r\n:9223372036854775808\r\n";
        let kept = kept(input).unwrap();
        let values: Vec<_> = Values::all(&kept).collect();
        let expected = [
            Value::Text(b"OK"),
            Value::Error(ErrorReply(b"ERR no such key")),
            Value::Int(-7),
            Value::Text(b"\r\n"),
            Value::Nil,
            Value::Nil,
            Value::Nil,
            Value::Text(b"abc"),
            Value::Error(ErrorReply(b"A b c")),
            Value::Other,
            Value::Other,
            Value::Other,
            Value::Other,
        ];
        assert_eq!(values, expected);
    }

    #[test]
    fn nested_values_are_read_in_order() {
        let kept = kept("*3\r\n%1\r\n+a\r\n~1\r\n:1\r\n,2.5\r\n*0\r\n:3\r\n").unwrap();
        let mut values = Values::all(&kept);
        let Some(Value::Array(mut items)) = values.next() else { panic!("an array") };
        let Some(Value::Map(pairs)) = items.next() else { panic!("a map") };
        assert_eq!(pairs.count(), 2);
        assert_eq!(items.next(), Some(Value::Other));
        assert!(matches!(items.next(), Some(Value::Array(empty)) if empty.count() == 0));
        assert_eq!((items.next(), values.next(), values.next()), (None, Some(Value::Int(3)), None));
    }

    #[test]
    fn an_attribute_is_left_out_and_the_value_that_it_describes_is_kept() {
        for (with, without) in [
            ("|1\r\n+k\r\n+v\r\n:2\r\n", ":2\r\n"),
            ("|0\r\n:2\r\n", ":2\r\n"),
            ("|1\r\n+k\r\n|1\r\n+k\r\n+v\r\n*1\r\n+v\r\n:2\r\n", ":2\r\n"),
            ("*2\r\n|1\r\n+ttl\r\n:3600\r\n:1\r\n|1\r\n+a\r\n%1\r\n+b\r\n*0\r\n+c\r\n", "*2\r\n:1\r\n+c\r\n"),
            ("%1\r\n+length\r\n|1\r\n+k\r\n+v\r\n:2\r\n", "%1\r\n+length\r\n:2\r\n"),
        ] {
            assert_eq!(kept(&format!("{with}:7\r\n")), kept(&format!("{without}:7\r\n")), "{with:?}");
        }
        assert_eq!(kept(&"|1\r\n+k\r\n".repeat(100)), Err(Malformed("it is nested too deeply")));
    }

    #[test]
    fn a_reply_beyond_a_limit_costs_that_reply_alone() {
        let many = format!("*600000\r\n{}:1\r\n", ":5\r\n".repeat(600_000));
        let large = format!("*200\r\n{}:1\r\n", format!("$60000\r\n{}\r\n", "x".repeat(60_000)).repeat(200));
        for input in [many, large] {
            let kept = kept(&input).unwrap();
            assert!(kept.len() < 100, "{}", kept.len());
            assert_eq!(Values::all(&kept).collect::<Vec<_>>(), [Value::Refused, Value::Int(1)]);
        }
    }

    #[test]
    fn replies_beyond_what_a_pipeline_may_keep_are_refused_one_by_one() {
        let reply = format!("$60000\r\n{}\r\n", "x".repeat(60_000));
        let kept = kept(&reply.repeat(200)).unwrap();
        assert!(kept.len() < MAX_KEPT + 200 * HEADER_BYTES, "{}", kept.len());
        let is_kept = |value: &Value<'_>| matches!(value, Value::Text(text) if text.len() == 60_000);
        let values: Vec<_> = Values::all(&kept).collect();
        let count = MAX_KEPT / (60_000 + HEADER_BYTES);
        assert!(values[..count].iter().all(is_kept));
        assert_eq!(values[count..], vec![Value::Refused; 200 - count]);
    }

    #[test]
    fn of_long_strings_the_length_is_kept() {
        let string = |length: usize| format!("${length}\r\n{}\r\n", "x".repeat(length));
        for (head, length, is_kept) in [
            ("", 65_536, true),
            ("*2\r\n*1\r\n:1\r\n*1\r\n", 65_536, true),
            ("*1\r\n", 65_537, false),
            ("*1\r\n*1\r\n*1\r\n", 1_024, true),
            ("*1\r\n*1\r\n*1\r\n", 1_025, false),
        ] {
            let kept = kept(&format!("{head}{}:1\r\n", string(length))).unwrap();
            assert_eq!(kept.len() > length, is_kept, "{head:?} {length}");
            let mut values = Values::all(&kept);
            let mut value = values.next().unwrap();
            while let Value::Array(items) = value {
                value = items.last().unwrap();
            }
            let expected = "x".repeat(length);
            let expected =
                if is_kept { Value::Text(expected.as_bytes()) } else { Value::LongText(length as u64) };
            assert_eq!((value, values.next()), (expected, Some(Value::Int(1))), "{head:?} {length}");
        }
    }

    #[test]
    fn other_bytes_are_an_error_at_once() {
        for input in [
            "HTTP/1.1 400 Bad Request\r\n",
            "x",
            ":\r\n",
            ":1a\r\n",
            "$-2\r\n",
            "$9999999999\r\n",
            "*99999999999\r\n",
            "$1\r\nab\r\n",
            "$1\r\na\n\r",
            "$1\r\na\r\r\n",
            "+a\n",
            "^1\r\n",
            "?x\r\n",
        ] {
            assert_eq!(kept(input), Err(NOT_RESP), "{input:?}");
        }
        assert_eq!(kept(&"*1\r\n".repeat(100_000)), Err(Malformed("it is nested too deeply")));
        assert_eq!(kept(&format!("+{}", "x".repeat(MAX_LINE))), Err(NOT_RESP));
    }
    #[test]
    fn what_is_kept_does_not_depend_on_the_parts_that_arrive() {
        let input =
            "*2\r\n$2\r\n\r\n\r\n%1\r\n+a\r\n|1\r\n+k\r\n$0\r\n\r\n*0\r\n>1\r\n+push\r\n-ERR x\r\n$1025\r\n";
        let input = format!("{input}{}\r\n:1\r\n", "x".repeat(1_025));
        let expected = kept(&input).unwrap();
        for size in 1..60 {
            let mut scanner = Scanner::default();
            for part in input.as_bytes().chunks(size) {
                let mut at = 0;
                while at < part.len() {
                    at += scanner.scan(&part[at..]).unwrap().0;
                }
            }
            assert_eq!(scanner.take_replies(), expected, "{size}");
        }
    }

    #[test]
    fn a_refused_reply_costs_as_much_in_parts_as_whole() {
        let text = format!("$1000\r\n{}\r\n", "x".repeat(1_000));
        let read_by = |part: usize| {
            let mut scanner = Scanner::default();
            scanner.scan(b"*300000\r\n").unwrap();
            for bytes in std::iter::repeat_n(&text, 10_000).flat_map(|text| text.as_bytes().chunks(part)) {
                scanner.scan(bytes).unwrap();
            }
            assert!(scanner.is_refused);
            scanner.read
        };
        assert_eq!(read_by(100), read_by(text.len()));
    }
}
