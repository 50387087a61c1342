//! The expression of a rule: one comparison, or several about one group that `and`, `or` and `unless` join as in PromQL.
//! Only built-in rules join comparisons: a configuration has one, and the words are reserved there.

use crate::alert::condition::{Condition, ConditionError};
use crate::alert::fact::FactValue;
use crate::alert::state::Evaluation;

/// A rule's expression.
#[derive(Clone, Debug, PartialEq)]
pub enum Expression {
    /// One comparison.
    Comparison(Condition),
    /// Two expressions about the same subjects.
    Joined(Box<Self>, Join, Box<Self>),
}

/// A set operator of PromQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Join {
    /// Holds where both hold, with the value of the left-hand side.
    And,
    /// Holds where one holds, with the value of the left-hand side if that does.
    Or,
    /// Holds where the left-hand side holds and the other does not.
    Unless,
}

impl From<Condition> for Expression {
    fn from(condition: Condition) -> Self {
        Self::Comparison(condition)
    }
}

impl Join {
    /// Returns the operator as PromQL writes it.
    pub fn word(self) -> &'static str {
        match self {
            Self::And => "and",
            Self::Or => "or",
            Self::Unless => "unless",
        }
    }
}

impl Expression {
    /// Parses comparisons that are joined, from left to right and without precedence, by operators; parentheses group them.
    ///
    /// # Errors
    ///
    /// A part is not a comparison.
    pub fn parse(text: &str) -> Result<Self, ConditionError> {
        let (first, mut rest) = operand(text)?;
        let mut expression = first;
        while !rest.is_empty() {
            let (word, behind) = rest.split_once(' ').ok_or(ConditionError::Form)?;
            let join = [Join::And, Join::Or, Join::Unless].into_iter().find(|join| join.word() == word);
            let (right, after) = operand(behind)?;
            let join = join.ok_or(ConditionError::Form)?;
            expression = Self::Joined(Box::new(expression), join, Box::new(right));
            rest = after;
        }
        Ok(expression)
    }

    /// Returns the first comparison: the subject of the rule, and mostly the value of its alerts.
    pub fn first(&self) -> &Condition {
        match self {
            Self::Comparison(condition) => condition,
            Self::Joined(left, ..) => left.first(),
        }
    }

    /// Returns all comparisons.
    pub fn conditions(&self) -> Vec<&Condition> {
        match self {
            Self::Comparison(condition) => vec![condition],
            Self::Joined(left, _, right) => [left.conditions(), right.conditions()].concat(),
        }
    }

    /// Evaluates the expression; `value` returns the value of a comparison's fact.
    pub fn evaluate(&self, value: &impl Fn(&Condition) -> FactValue) -> Evaluation {
        match self {
            Self::Comparison(condition) => match value(condition) {
                FactValue::Known(value) if condition.holds(value) => Evaluation::Holds(value),
                FactValue::Known(_) | FactValue::Gone => Evaluation::Clear,
                FactValue::Unknown => Evaluation::Unknown,
            },
            Self::Joined(left, join, right) => join.evaluate(left.evaluate(value), || right.evaluate(value)),
        }
    }
}

impl Join {
    fn evaluate(self, left: Evaluation, right: impl FnOnce() -> Evaluation) -> Evaluation {
        match (self, left) {
            (Self::And | Self::Unless, Evaluation::Clear) => Evaluation::Clear,
            (Self::Or, Evaluation::Holds(_)) => left,
            (Self::Or, Evaluation::Clear) => right(),
            (Self::Or, Evaluation::Unknown) => match right() {
                Evaluation::Clear => Evaluation::Unknown,
                right => right,
            },
            (Self::And, _) => match right() {
                Evaluation::Holds(_) => left,
                right => right,
            },
            (Self::Unless, _) => match right() {
                Evaluation::Holds(_) => Evaluation::Clear,
                Evaluation::Clear => left,
                Evaluation::Unknown => Evaluation::Unknown,
            },
        }
    }
}

/// Returns the position of the parenthesis that closes a group; that of the end of the text if there is none.
fn group_end(text: &str) -> usize {
    let mut depth = 1;
    let closes = |char: char| {
        depth += i32::from(char == '(') - i32::from(char == ')');
        depth == 0
    };
    text.find(closes).unwrap_or(text.len())
}

/// Parses the first operand of a text, and returns it with the text behind it.
fn operand(text: &str) -> Result<(Expression, &str), ConditionError> {
    if let Some(inside) = text.strip_prefix('(') {
        let (inside, rest) = inside.split_at_checked(group_end(inside)).ok_or(ConditionError::Form)?;
        let rest = rest.strip_prefix(')').ok_or(ConditionError::Form)?;
        return Ok((Expression::parse(inside)?, rest.trim_start()));
    }
    let joins = [" and ", " or ", " unless "];
    let end = joins.iter().filter_map(|join| text.find(join)).min().unwrap_or(text.len());
    let (condition, rest) = text.split_at(end);
    Ok((Condition::parse_built_in(condition)?.into(), rest.trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use Evaluation::{Clear, Holds, Unknown};

    #[test]
    fn joined_comparisons_are_known_as_far_as_their_parts_are() {
        let value = |condition: &Condition| match condition.fact.name {
            "lag" => FactValue::Known(7.0),
            "consumers" => FactValue::Known(0.0),
            _ => FactValue::Unknown,
        };
        for (text, expected) in [
            ("lag > 5", Holds(7.0)),
            ("lag > 9", Clear),
            ("lag_seconds > 9", Unknown),
            ("lag > 5 and consumers == 0", Holds(7.0)),
            ("consumers == 0 and lag > 5", Holds(0.0)),
            ("lag > 5 and consumers > 0", Clear),
            ("lag > 5 and lag_seconds > 9", Unknown),
            ("lag > 9 and lag_seconds > 9", Clear),
            ("lag_seconds > 9 and lag > 9", Clear),
            ("lag_seconds > 9 and lag > 5", Unknown),
            ("lag > 5 or consumers == 0", Holds(7.0)),
            ("lag > 9 or consumers == 0", Holds(0.0)),
            ("lag > 9 or consumers > 0", Clear),
            ("lag > 9 or lag_seconds > 9", Unknown),
            ("lag_seconds > 9 or lag > 9", Unknown),
            ("lag_seconds > 9 or lag > 5", Holds(7.0)),
            ("lag > 5 unless consumers > 0", Holds(7.0)),
            ("lag > 5 unless consumers == 0", Clear),
            ("lag > 5 unless lag_seconds > 9", Unknown),
            ("lag > 9 unless lag_seconds > 9", Clear),
            ("lag > 9 and consumers == 0 or lag > 5", Holds(7.0)),
            ("lag > 9 and (consumers == 0 or lag > 5)", Clear),
            ("(lag > 5) and consumers == 0", Holds(7.0)),
            ("(lag > 5 and (consumers > 0 or lag > 6)) or lag > 9", Holds(7.0)),
        ] {
            assert_eq!(Expression::parse(text).unwrap().evaluate(&value), expected, "{text}");
        }
    }

    #[test]
    fn other_texts_are_rejected() {
        for text in ["", "lag", "lag > 5 and", "lag > 5 and and lag > 6", "(lag > 5", "(lag > 5) lag > 6"] {
            assert!(Expression::parse(text).is_err(), "{text}");
        }
    }
}
