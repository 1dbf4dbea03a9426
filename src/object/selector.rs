//! kubectl's label selectors: `a=b,c!=d,e in (x,y),f notin (z),g,!h,i>1`.
//!
//! Grammar and meaning are those of apimachinery's pkg/labels/selector.go, with the place of a mistake in the message.

use std::collections::BTreeMap;

use super::pod::LabelSelector;

/// A parsed selector; it selects what meets all of its requirements.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector(Vec<Requirement>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    key: String,
    operator: Operator,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Operator {
    Exists,
    Absent,
    In(Vec<String>),
    NotIn(Vec<String>),
    Greater(i64),
    Less(i64),
}

/// Indicates a selector of a manifest or object that no API server would have taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {name:?} {rule}")]
pub struct InvalidLabels {
    what: &'static str,
    name: String,
    rule: &'static str,
}

/// Indicates a text that is not a selector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid label selector at character {at}: {why}, as in -l 'app=web,tier in (a,b),!old'")]
pub struct InvalidSelector {
    /// Counted from 1.
    pub at: usize,
    why: &'static str,
}

const LABEL_KEY: &str = "a label key is [PREFIX/]NAME with at most 63 letters, digits, '-', '_' and '.' in NAME, beginning and ending with a letter or digit";
const LABEL_VALUE: &str =
    "a label value has at most 63 letters, digits, '-', '_' and '.', beginning and ending with a letter or digit";

const LABEL_KEY_RULE: &str =
    "is no label key: that is [PREFIX/]NAME with at most 63 letters, digits, '-', '_' and '.' in NAME";
const LABEL_VALUE_RULE: &str = "is no label value: that is at most 63 letters, digits, '-', '_' and '.'";

impl Selector {
    /// Reads what a user typed after `-l`. The empty text selects everything.
    pub fn parse(text: &str) -> Result<Self, InvalidSelector> {
        let mut parser = Parser { tokens: tokens(text), next: 0 };
        let mut requirements = Vec::new();
        if parser.peek().token == Token::End {
            return Ok(Selector(requirements));
        }
        loop {
            requirements.push(parser.requirement()?);
            let found = parser.take();
            match found.token {
                Token::End => return Ok(Selector(requirements)),
                Token::Symbol(",") => {}
                _ => return Err(found.error("expected ',' or the end")),
            }
        }
    }

    /// The selector that an object has in it. Source: `LabelSelectorAsSelector`, apimachinery's pkg/apis/meta/v1/helpers.go.
    pub fn of(labels: &LabelSelector) -> Result<Self, InvalidLabels> {
        let invalid = |what, name: &str, rule| InvalidLabels { what, name: name.chars().take(64).collect(), rule };
        let mut requirements = Vec::new();
        for (key, value) in &labels.match_labels {
            requirements.push(Requirement { key: key.clone(), operator: Operator::In(vec![value.clone()]) });
        }
        for wanted in &labels.match_expressions {
            let values = wanted.values.clone();
            let (operator, wants_values) = match wanted.operator.as_str() {
                "In" => (Operator::In(values), true),
                "NotIn" => (Operator::NotIn(values), true),
                "Exists" => (Operator::Exists, false),
                "DoesNotExist" => (Operator::Absent, false),
                other => return Err(invalid("the operator", other, "is not In, NotIn, Exists or DoesNotExist")),
            };
            if wanted.values.is_empty() == wants_values {
                let rule = "has values without need, or none where it needs some";
                return Err(invalid("the requirement for", &wanted.key, rule));
            }
            requirements.push(Requirement { key: wanted.key.clone(), operator });
        }
        for Requirement { key, operator } in &requirements {
            if !is_label_key(key) {
                return Err(invalid("the key", key, LABEL_KEY_RULE));
            }
            let (Operator::In(values) | Operator::NotIn(values)) = operator else { continue };
            if let Some(value) = values.iter().find(|value| !is_label_value(value)) {
                return Err(invalid("the value", value, LABEL_VALUE_RULE));
            }
        }
        Ok(Selector(requirements))
    }

    /// Whether it selects an object with these labels.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|requirement| requirement.matches(labels.get(&requirement.key).map(String::as_str)))
    }
}

impl Requirement {
    fn matches(&self, value: Option<&str>) -> bool {
        let number = || value.and_then(go_int);
        match &self.operator {
            Operator::Exists => value.is_some(),
            Operator::Absent => value.is_none(),
            Operator::In(wanted) => value.is_some_and(|value| wanted.iter().any(|w| w == value)),
            Operator::NotIn(unwanted) => value.is_none_or(|value| unwanted.iter().all(|u| u != value)),
            Operator::Greater(than) => number().is_some_and(|number| number > *than),
            Operator::Less(than) => number().is_some_and(|number| number < *than),
        }
    }
}

/// strconv.ParseInt in base 10.
fn go_int(text: &str) -> Option<i64> {
    text.parse().ok()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    Word(&'a str),
    Symbol(&'static str),
    /// Characters that begin no symbol.
    Bad,
    End,
}

#[derive(Clone, Copy, Debug)]
struct Placed<'a> {
    token: Token<'a>,
    at: usize,
}

impl Placed<'_> {
    fn error(&self, why: &'static str) -> InvalidSelector {
        InvalidSelector { at: self.at, why }
    }
}

const SPACES: [char; 4] = [' ', '\t', '\r', '\n'];
const SPECIAL: [char; 7] = ['=', '!', '(', ')', ',', '>', '<'];

fn tokens(text: &str) -> Vec<Placed<'_>> {
    let mut tokens = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches(SPACES);
        let at = text[..text.len() - rest.len()].chars().count() + 1;
        let Some(first) = rest.chars().next() else {
            tokens.push(Placed { token: Token::End, at });
            return tokens;
        };
        let (token, len) = if SPECIAL.contains(&first) {
            // The longest symbol, as the lexer of apimachinery takes it.
            let symbol = ["==", "!=", "=", "!", "(", ")", ",", ">", "<"].into_iter().find(|s| rest.starts_with(s));
            symbol.map_or((Token::Bad, first.len_utf8()), |symbol| (Token::Symbol(symbol), symbol.len()))
        } else {
            let len = rest.find(|c| SPECIAL.contains(&c) || SPACES.contains(&c)).unwrap_or(rest.len());
            (Token::Word(&rest[..len]), len)
        };
        tokens.push(Placed { token, at });
        rest = &rest[len..];
    }
}

struct Parser<'a> {
    tokens: Vec<Placed<'a>>,
    next: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Placed<'a> {
        // The last token is the end, and is never passed.
        self.tokens[self.next.min(self.tokens.len() - 1)]
    }

    fn take(&mut self) -> Placed<'a> {
        let token = self.peek();
        self.next += 1;
        token
    }

    fn requirement(&mut self) -> Result<Requirement, InvalidSelector> {
        let mut found = self.take();
        let negated = found.token == Token::Symbol("!");
        if negated {
            found = self.take();
        }
        let Token::Word(key) = found.token else { return Err(found.error("expected a label key")) };
        if !is_label_key(key) {
            return Err(found.error(LABEL_KEY));
        }
        let ends = matches!(self.peek().token, Token::End | Token::Symbol(","));
        let operator = match (negated, ends) {
            (true, true) => Operator::Absent,
            (false, true) => Operator::Exists,
            // kubectl lets `!key=value` pass and forgets the `!`.
            (_, false) => self.operator()?,
        };
        Ok(Requirement { key: key.to_owned(), operator })
    }

    fn operator(&mut self) -> Result<Operator, InvalidSelector> {
        let found = self.take();
        match found.token {
            Token::Symbol("=" | "==") => Ok(Operator::In(vec![self.value()?])),
            Token::Symbol("!=") => Ok(Operator::NotIn(vec![self.value()?])),
            Token::Word("in") => Ok(Operator::In(self.values()?)),
            Token::Word("notin") => Ok(Operator::NotIn(self.values()?)),
            Token::Symbol(symbol @ (">" | "<")) => {
                let at = self.peek();
                let number = go_int(&self.value()?).ok_or(at.error("expected an integer"))?;
                Ok(if symbol == ">" { Operator::Greater(number) } else { Operator::Less(number) })
            }
            _ => Err(found.error("expected =, ==, !=, in, notin, >, <, ',' or the end")),
        }
    }

    /// One value; nothing at all is the empty value.
    fn value(&mut self) -> Result<String, InvalidSelector> {
        match self.peek().token {
            Token::End | Token::Symbol(",") => Ok(String::new()),
            _ => {
                let found = self.take();
                valid_value(found)
            }
        }
    }

    /// `(a,b)`; an empty place between commas is the empty value.
    fn values(&mut self) -> Result<Vec<String>, InvalidSelector> {
        let open = self.take();
        if open.token != Token::Symbol("(") {
            return Err(open.error("expected '('"));
        }
        let mut values = Vec::new();
        loop {
            match self.peek().token {
                Token::Symbol("," | ")") => values.push(String::new()),
                _ => {
                    let found = self.take();
                    values.push(valid_value(found)?);
                }
            }
            let found = self.take();
            match found.token {
                Token::Symbol(",") => {}
                Token::Symbol(")") => return Ok(values),
                _ => return Err(found.error("expected ',' or ')'")),
            }
        }
    }
}

fn valid_value(found: Placed<'_>) -> Result<String, InvalidSelector> {
    match found.token {
        Token::Word(value) if is_label_value(value) => Ok(value.to_owned()),
        Token::Word(_) => Err(found.error(LABEL_VALUE)),
        _ => Err(found.error("expected a value")),
    }
}

/// `[PREFIX/]NAME`. Source: `IsLabelKey`, apimachinery's validation.
pub(crate) fn is_label_key(text: &str) -> bool {
    match text.split_once('/') {
        None => is_label_name(text),
        Some((prefix, name)) => super::Name::new(prefix).is_ok() && is_label_name(name),
    }
}

/// Source: `IsValidLabelValue`, apimachinery's validation.
pub(crate) fn is_label_value(text: &str) -> bool {
    text.is_empty() || is_label_name(text)
}

fn is_label_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    bytes.len() <= 63
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(text: &str) -> BTreeMap<String, String> {
        let pairs = text.split(',').filter(|pair| !pair.is_empty());
        pairs.map(|pair| pair.split_once('=').unwrap()).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
    }

    #[test]
    fn selectors_select_as_kubectl_does() {
        // selector, labels that it selects, labels that it does not
        let table: &[(&str, &[&str], &[&str])] = &[
            ("", &["", "a=b"], &[]),
            ("a=b", &["a=b", "a=b,c=d"], &["", "a=c"]),
            ("a==b", &["a=b"], &["a=c"]),
            ("a=", &["a="], &["", "a=b"]),
            ("a!=b", &["", "a=c"], &["a=b"]),
            ("a in (x,y)", &["a=x", "a=y"], &["", "a=z"]),
            ("a in (x,,y)", &["a=", "a=x"], &["a=z", ""]),
            ("a in ()", &["a="], &["a=x", ""]),
            ("a in (,)", &["a="], &["a=x"]),
            ("a notin (x)", &["", "a=y"], &["a=x"]),
            ("in in (in)", &["in=in"], &["in=out"]),
            ("a", &["a=", "a=b"], &["b=a"]),
            ("!a", &["", "b=a"], &["a="]),
            (" ! a , b ", &["b=1"], &["a=1,b=1", ""]),
            ("a>1", &["a=2"], &["a=1", "a=x", ""]),
            ("a<1", &["a=0", "a=-5"], &["a=1"]),
            ("a=b,c!=d,e in (x,y),f notin (z),g,!h", &["a=b,e=x,g="], &["a=b,e=x,g=,h=", "a=b,g="]),
            ("example.com/a=b", &["example.com/a=b"], &["a=b"]),
            ("!a=b", &["a=b"], &[""]),
        ];
        for (text, selected, others) in table {
            let selector = Selector::parse(text).unwrap();
            selected.iter().for_each(|l| assert!(selector.matches(&labels(l)), "{text:?} selects {l:?}"));
            others.iter().for_each(|l| assert!(!selector.matches(&labels(l)), "{text:?} does not select {l:?}"));
        }
    }

    #[test]
    fn a_mistake_is_named_with_its_place() {
        let table = [
            (",a", 1),
            ("a,", 3),
            ("a,,b", 3),
            ("a=b c", 5),
            ("a b", 3),
            ("a in x", 6),
            ("a in (x", 8),
            ("a in (x y)", 9),
            ("a=(", 3),
            ("a===b", 4),
            ("=b", 1),
            ("a=b/c", 3),
            ("-a=b", 1),
            ("A/B=c", 1),
            ("a>x", 3),
            ("!", 2),
            ("!!a", 2),
            ("ä=b", 1),
        ];
        for (text, at) in table {
            assert_eq!(Selector::parse(text).unwrap_err().at, at, "{text}");
        }
    }
}
