//! The condition of a rule, `FACT OPERATOR VALUE`: parsing and comparison.

use std::time::Duration;

use thiserror::Error;

use crate::alert::fact::{FACTS, Fact, FactUnit};
use crate::alert::operator::{OPERATORS, Operator};
use redis_stream_lag::report::Status;

/// One comparison.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Condition {
    pub fact: &'static Fact,
    pub operator: Operator,
    pub operand: Operand,
}

/// The right-hand side of a comparison.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Operand {
    /// A number, in the unit of the fact.
    Number(f64),
    /// The name of a [`Status`].
    Status(&'static str),
}

/// An error in the text of a condition. Its message states what was expected and quotes nothing of the text.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConditionError {
    /// The text is not of the form `FACT OPERATOR VALUE`.
    #[error("expected FACT OPERATOR VALUE, such as lag > 1000")]
    Form,
    /// The text joins comparisons by this word.
    #[error("{0:?} is reserved; expected one comparison")]
    Reserved(&'static str),
    /// There is no fact with this name, which the message does not quote.
    #[error("unknown fact; expected one of {names}", names = fact_names())]
    UnknownFact(String),
    /// `entries_lost` is used in a comparison other than `> 0`.
    #[error("expected entries_lost > 0, the only comparison it has")]
    Losses,
    /// `status` is compared with something other than a status, or by `<` or `>`.
    #[error(
        "expected status == STATUS or status != STATUS, with one of {}",
        Status::ALL.map(Status::as_str).join(", ")
    )]
    Status,
    /// The value is a duration, and this fact is not in seconds.
    #[error("{0} is a number, not a duration{hint}", hint = hint_of(.0))]
    Duration(&'static str),
    /// The value does not have the unit of the fact.
    #[error("expected {}", value_of(*.0))]
    Value(FactUnit),
}

impl Condition {
    /// Parses a condition.
    ///
    /// # Errors
    ///
    /// The text is not a condition.
    pub fn parse(text: &str) -> Result<Self, ConditionError> {
        Self::parse_with(text, Fact::named)
    }

    /// Parses a condition of a built-in rule.
    pub(super) fn parse_built_in(text: &str) -> Result<Self, ConditionError> {
        Self::parse_with(text, Fact::built_in)
    }

    fn parse_with(text: &str, fact: fn(&str) -> Option<&'static Fact>) -> Result<Self, ConditionError> {
        let words = || text.split_whitespace().map(str::to_ascii_lowercase);
        if let Some(reserved) =
            ["and", "or"].into_iter().find(|reserved| words().any(|word| word == *reserved))
        {
            return Err(ConditionError::Reserved(reserved));
        }
        let text = text.trim();
        let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(text.len());
        let (name, rest) = text.split_at(end);
        let found = OPERATORS.iter().find_map(|(sign, operator)| {
            rest.trim_start().strip_prefix(sign).map(|value| (*operator, value.trim()))
        });
        let Some((operator, value)) = found.filter(|(_, value)| !name.is_empty() && !value.is_empty()) else {
            return Err(ConditionError::Form);
        };
        let fact = fact(name).ok_or_else(|| ConditionError::UnknownFact(name.to_owned()))?;
        let operand = operand(fact, operator, value)?;
        Ok(Self { fact, operator, operand })
    }

    /// Returns the name of its fact, or of the status to which the fact `status` is compared.
    pub(super) fn quantity(&self) -> &'static str {
        match self.operand {
            Operand::Status(status) => status,
            Operand::Number(_) => self.fact.name,
        }
    }

    /// Returns true if the condition holds for a value. The value of a status is 1 if it is the operand, else 0.
    #[expect(clippy::float_cmp, reason = "== means the same number, as in Prometheus")]
    pub fn holds(&self, value: f64) -> bool {
        let number = match self.operand {
            Operand::Number(number) => number,
            Operand::Status(_) => 1.0,
        };
        match self.operator {
            Operator::Above => value > number,
            Operator::AtLeast => value >= number,
            Operator::Below => value < number,
            Operator::AtMost => value <= number,
            Operator::Is => value == number,
            Operator::IsNot => value != number,
        }
    }
}

fn operand(fact: &Fact, operator: Operator, value: &str) -> Result<Operand, ConditionError> {
    match fact.unit {
        FactUnit::Status => {
            let status = Status::ALL.map(Status::as_str).into_iter().find(|status| *status == value);
            let is_equality = matches!(operator, Operator::Is | Operator::IsNot);
            status.filter(|_| is_equality).map(Operand::Status).ok_or(ConditionError::Status)
        }
        FactUnit::Number if fact.needs_window() => {
            let is_above_zero = operator == Operator::Above && number(value) == Some(0.0);
            if is_above_zero { Ok(Operand::Number(0.0)) } else { Err(ConditionError::Losses) }
        }
        FactUnit::Number => number(value).map(Operand::Number).ok_or_else(|| {
            let is_duration = humantime::parse_duration(value).is_ok();
            if is_duration { ConditionError::Duration(fact.name) } else { ConditionError::Value(fact.unit) }
        }),
        FactUnit::Seconds => {
            let duration = || humantime::parse_duration(value).ok().as_ref().map(Duration::as_secs_f64);
            number(value).or_else(duration).map(Operand::Number).ok_or(ConditionError::Value(fact.unit))
        }
    }
}

/// Parses a finite number. Rust would also accept `inf` and `nan`.
fn number(text: &str) -> Option<f64> {
    let is_number = text.starts_with(|first: char| first.is_ascii_digit() || "+-.".contains(first));
    text.parse().ok().filter(|number: &f64| is_number && number.is_finite())
}

/// Returns a hint to the fact in seconds that corresponds to a number.
fn hint_of(name: &str) -> String {
    let seconds = format!("{name}_seconds");
    if Fact::named(&seconds).is_some() { format!("; did you mean {seconds}?") } else { String::new() }
}

fn fact_names() -> String {
    FACTS.iter().map(|fact| fact.name).collect::<Vec<_>>().join(", ")
}

fn value_of(unit: FactUnit) -> &'static str {
    match unit {
        FactUnit::Seconds => "a duration such as 5m, or a number of seconds",
        FactUnit::Number | FactUnit::Status => "a number behind the operator",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<(&'static str, &'static str, Operand), ConditionError> {
        Condition::parse(text).map(|parsed| (parsed.fact.name, parsed.operator.sign(), parsed.operand))
    }

    #[test]
    fn conditions_are_parsed() {
        for (text, name, sign, number) in [
            ("lag > 1000", "lag", ">", 1000.0),
            ("  lag>=1e3 ", "lag", ">=", 1000.0),
            ("retention_used_ratio <= .8", "retention_used_ratio", "<=", 0.8),
            ("lag_seconds > 5m", "lag_seconds", ">", 300.0),
            ("lag_seconds > 1h 30m", "lag_seconds", ">", 5400.0),
            ("lag_seconds > 1h30m", "lag_seconds", ">", 5400.0),
            ("lag_seconds < 500ms", "lag_seconds", "<", 0.5),
            ("lag_seconds != 90", "lag_seconds", "!=", 90.0),
            ("entries_lost > 0", "entries_lost", ">", 0.0),
            ("entries_lost>0.0", "entries_lost", ">", 0.0),
            ("stream_up == 0", "stream_up", "==", 0.0),
            ("length < -1", "length", "<", -1.0),
        ] {
            assert_eq!(parsed(text), Ok((name, sign, Operand::Number(number))), "{text}");
        }
        assert_eq!(parsed("status == stalled"), Ok(("status", "==", Operand::Status("stalled"))));
        assert_eq!(parsed("status!=ok"), Ok(("status", "!=", Operand::Status("ok"))));
    }

    #[test]
    fn invalid_conditions_are_rejected() {
        for (text, fault) in [
            ("", ConditionError::Form),
            ("lag", ConditionError::Form),
            ("lag >", ConditionError::Form),
            ("> 5", ConditionError::Form),
            ("lag = 5", ConditionError::Form),
            ("max(lag) > 5", ConditionError::Form),
            ("lag ! > 5", ConditionError::Form),
            ("lag > 5 and consumers == 0", ConditionError::Reserved("and")),
            ("lag > 5 OR lag_seconds > 5m", ConditionError::Reserved("or")),
            ("lagg > 5", ConditionError::UnknownFact("lagg".to_owned())),
            ("Lag > 5", ConditionError::UnknownFact("Lag".to_owned())),
            ("lag > 5m", ConditionError::Duration("lag")),
            ("messages_pending > 1h 30m", ConditionError::Duration("messages_pending")),
            ("lag > > 5", ConditionError::Value(FactUnit::Number)),
            ("lag > inf", ConditionError::Value(FactUnit::Number)),
            ("lag > 5 entries", ConditionError::Value(FactUnit::Number)),
            ("lag_seconds > soon", ConditionError::Value(FactUnit::Seconds)),
            ("entries_lost > 1", ConditionError::Losses),
            ("entries_lost >= 0", ConditionError::Losses),
            ("status > ok", ConditionError::Status),
            ("status == sleepy", ConditionError::Status),
            ("status == 1", ConditionError::Status),
        ] {
            assert_eq!(parsed(text), Err(fault), "{text}");
        }
    }

    #[test]
    fn a_value_is_compared_with_the_operand() {
        for (text, holding, not_holding) in [
            ("lag > 5", 6.0, 5.0),
            ("lag >= 5", 5.0, 4.0),
            ("lag < 5", 4.0, 5.0),
            ("lag <= 5", 5.0, 6.0),
            ("lag == 5", 5.0, 6.0),
            ("lag != 5", 6.0, 5.0),
            ("status == ok", 1.0, 0.0),
            ("status != ok", 0.0, 1.0),
        ] {
            let condition = Condition::parse(text).unwrap();
            assert!(condition.holds(holding) && !condition.holds(not_holding), "{text}");
        }
    }
}
