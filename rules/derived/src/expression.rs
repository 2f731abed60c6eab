//! Expressions: numbers, points, `+ - * / % ^`, comparisons, `and or not`, `if(c, a, b)` and a few
//! functions. True is 1 and false is 0; anything but 0 is true. Read into a list of steps for a
//! stack, so a value costs a few instructions a step and no recursion.

use fieldgate_rule::calc;
use fieldgate_rule::prelude::*;

/// An expression, read.
#[derive(Debug)]
pub struct Expression {
    steps: Vec<Step>,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Number(f64),
    Input(usize),
    One(One),
    Two(Two),
    /// Takes condition, then, else.
    If,
}

/// Deepest nesting; a person loses track before that.
const DEPTH_MAX: u8 = 32;
/// Most steps.
const STEPS_MAX: usize = 512;

type One = fn(f64) -> f64;
type Two = fn(f64, f64) -> f64;

const ONES: [(&str, One); 9] = [
    ("abs", f64::abs),
    ("sqrt", calc::sqrt),
    ("exp", libm::exp),
    ("ln", libm::log),
    ("log10", libm::log10),
    ("floor", calc::floor),
    ("ceil", |x| -calc::floor(-x)),
    ("round", calc::round),
    ("not", |x| truth(x == 0.0)),
];
const TWOS: [(&str, Two); 3] = [("min", f64::min), ("max", f64::max), ("pow", libm::pow)];

fn truth(is: bool) -> f64 {
    f64::from(u8::from(is))
}

/// Binary operators by how tightly they bind, loosest first.
const LEVELS: [&[(&str, Two)]; 5] = [
    &[("or", |a, b| truth(a != 0.0 || b != 0.0))],
    &[("and", |a, b| truth(a != 0.0 && b != 0.0))],
    &[
        ("<=", |a, b| truth(a <= b)),
        (">=", |a, b| truth(a >= b)),
        ("==", |a, b| truth(a == b)),
        ("!=", |a, b| truth(a != b)),
        ("<", |a, b| truth(a < b)),
        (">", |a, b| truth(a > b)),
    ],
    &[("+", |a, b| a + b), ("-", |a, b| a - b)],
    &[("*", |a, b| a * b), ("/", |a, b| a / b), ("%", libm::fmod)],
];

/// Reads an expression, and the names of the points in it, in the order of their first mention.
pub fn read(text: &str) -> Result<(Expression, Vec<String>), String> {
    let mut reader = Reader { text, at: 0, steps: Vec::new(), names: Vec::new() };
    reader.level(0, 0)?;
    reader.space();
    if reader.at < text.len() {
        return Err(reader.found("the expression should end"));
    }
    if reader.names.is_empty() {
        return Err("the expression names no point, so there is nothing to wait for".to_owned());
    }
    Ok((Expression { steps: reader.steps }, reader.names))
}

impl Expression {
    /// Its value for these inputs, in the order of their names.
    pub fn value(&self, inputs: &[f64]) -> f64 {
        let mut stack: Vec<f64> = Vec::with_capacity(16);
        for step in &self.steps {
            let mut pop = || stack.pop().unwrap_or(f64::NAN);
            let value = match step {
                Step::Number(number) => *number,
                Step::Input(place) => inputs.get(*place).copied().unwrap_or(f64::NAN),
                Step::One(function) => function(pop()),
                Step::Two(function) => {
                    let (b, a) = (pop(), pop());
                    function(a, b)
                }
                Step::If => {
                    let (no, yes, condition) = (pop(), pop(), pop());
                    if condition == 0.0 { no } else { yes }
                }
            };
            stack.push(value);
        }
        stack.pop().unwrap_or(f64::NAN)
    }
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
    steps: Vec<Step>,
    names: Vec<String>,
}

impl<'t> Reader<'t> {
    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn space(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    fn found(&self, wanted: &str) -> String {
        let rest: String = self.rest().chars().take(12).collect();
        match rest.is_empty() {
            true => format!("{wanted}, and it ends"),
            false => format!("{wanted} at {} and not go on with {rest}", self.at + 1),
        }
    }

    fn push(&mut self, step: Step) -> Result<(), String> {
        if self.steps.len() == STEPS_MAX {
            return Err(format!("the expression has more than {STEPS_MAX} steps"));
        }
        self.steps.push(step);
        Ok(())
    }

    /// Takes this operator or sign off the front; a word only when it ends there.
    fn take(&mut self, sign: &str) -> bool {
        self.space();
        let Some(after) = self.rest().strip_prefix(sign) else { return false };
        let word = sign.starts_with(char::is_alphabetic);
        if word && after.starts_with(|c: char| c.is_alphanumeric() || "_.(".contains(c)) {
            return false;
        }
        self.at += sign.len();
        true
    }

    fn level(&mut self, level: usize, depth: u8) -> Result<(), String> {
        let Some(operators) = LEVELS.get(level) else { return self.sign(depth) };
        self.level(level + 1, depth)?;
        'more: loop {
            for (sign, function) in *operators {
                if self.take(sign) {
                    self.level(level + 1, depth)?;
                    self.push(Step::Two(*function))?;
                    continue 'more;
                }
            }
            return Ok(());
        }
    }

    /// Signs before a value. They are looser than `^`: -2 ^ 2 is -4.
    fn sign(&mut self, depth: u8) -> Result<(), String> {
        let depth = deeper(depth)?;
        if self.take("-") {
            self.sign(depth)?;
            return self.push(Step::One(|x| -x));
        }
        if self.take("not") {
            self.sign(depth)?;
            return self.push(Step::One(|x| truth(x == 0.0)));
        }
        self.value(depth)?;
        if self.take("^") {
            self.sign(depth)?;
            self.push(Step::Two(libm::pow))?;
        }
        Ok(())
    }

    fn value(&mut self, depth: u8) -> Result<(), String> {
        self.space();
        let rest = self.rest();
        if self.take("(") {
            self.level(0, deeper(depth)?)?;
            return self.close();
        }
        if let Some(name) = rest.strip_prefix('[') {
            let end = name.find(']').ok_or("a [ has no ]".to_owned())?;
            self.at += end + 2;
            return self.input(name[..end].trim());
        }
        if rest.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
            return self.number();
        }
        let length =
            rest.find(|c: char| !c.is_alphanumeric() && c != '_' && c != '.').unwrap_or(rest.len());
        let word = &rest[..length];
        if !word.starts_with(|c: char| c.is_alphabetic() || c == '_') {
            return Err(self.found("a number, a point or ( should stand"));
        }
        self.at += length;
        match word {
            "pi" => self.push(Step::Number(core::f64::consts::PI)),
            "true" => self.push(Step::Number(1.0)),
            "false" => self.push(Step::Number(0.0)),
            _ if self.take("(") => self.call(word, depth),
            _ => self.input(word),
        }
    }

    fn number(&mut self) -> Result<(), String> {
        let rest = self.rest();
        let mut before = ' ';
        let end = rest.find(|c: char| {
            let exponent =
                matches!(c, 'e' | 'E') || (matches!(c, '+' | '-') && matches!(before, 'e' | 'E'));
            before = c;
            !c.is_ascii_digit() && c != '.' && !exponent
        });
        let text = &rest[..end.unwrap_or(rest.len())];
        let number = text.parse().map_err(|_| format!("{text} is no number"))?;
        self.at += text.len();
        self.push(Step::Number(number))
    }

    fn call(&mut self, name: &str, depth: u8) -> Result<(), String> {
        let depth = deeper(depth)?;
        let one = ONES.iter().find(|(known, _)| *known == name);
        let two = TWOS.iter().find(|(known, _)| *known == name);
        let (count, step) = match (one, two) {
            (Some((_, function)), _) => (1, Step::One(*function)),
            (_, Some((_, function))) => (2, Step::Two(*function)),
            _ if name == "if" => (3, Step::If),
            _ => return Err(format!("there is no function {name}")),
        };
        for place in 0..count {
            if place > 0 && !self.take(",") {
                return Err(self.found(&format!("{name} takes {count}: a comma should stand")));
            }
            self.level(0, depth)?;
        }
        self.close()?;
        self.push(step)
    }

    fn close(&mut self) -> Result<(), String> {
        if self.take(")") { Ok(()) } else { Err(self.found("a ) should stand")) }
    }

    fn input(&mut self, name: &str) -> Result<(), String> {
        if name.is_empty() {
            return Err("a point has no name".to_owned());
        }
        let known = self.names.iter().position(|known| known == name);
        let place = known.unwrap_or(self.names.len());
        if known.is_none() {
            self.names.push(name.to_owned());
        }
        self.push(Step::Input(place))
    }
}

fn deeper(depth: u8) -> Result<u8, String> {
    if depth >= DEPTH_MAX {
        return Err(format!("the expression is nested deeper than {DEPTH_MAX}"));
    }
    Ok(depth + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> f64 {
        let (expression, _) = read(&format!("{text} + 0 * x")).unwrap();
        expression.value(&[0.0])
    }

    #[test]
    fn operators_bind_as_people_expect() {
        let cases = [
            ("1 + 2 * 3", 7.0),
            ("(1 + 2) * 3", 9.0),
            ("2 ^ 3 ^ 2", 512.0),
            ("-2 ^ 2", -4.0),
            ("10 - 4 - 3", 3.0),
            ("7 % 4", 3.0),
            ("1e3 / 2.5e-1", 4000.0),
            ("if(3 > 2 and not (1 == 2), 5, 6)", 5.0),
            ("max(2, min(9, 5)) + abs(-1) + sqrt(16) + round(2.5) + ceil(0.1)", 14.0),
            ("(1 < 2) + (2 <= 2) + (3 >= 4) + (1 != 1 or 0)", 2.0),
        ];
        for (text, wanted) in cases {
            assert_eq!(value(text), wanted, "{text}");
        }
    }

    #[test]
    fn points_are_numbered_by_first_mention() {
        let (expression, names) = read("[a/x.y] * b_1 - [a/x.y]").unwrap();
        assert_eq!(names, ["a/x.y", "b_1"]);
        assert_eq!(expression.value(&[2.0, 5.0]), 8.0);
    }

    #[test]
    fn every_slip_is_said_in_words() {
        let deep = format!("{}x{}", "(".repeat(40), ")".repeat(40));
        let signs = format!("{}x", "-".repeat(5000));
        let long = format!("x{}", "+1".repeat(600));
        let cases = [
            ("", "should stand, and it ends"),
            ("1 + 2", "names no point"),
            ("x +", "should stand, and it ends"),
            ("x y", "should end at 3 and not go on with y"),
            ("(x", "a ) should stand"),
            ("max(x)", "max takes 2"),
            ("nope(x)", "there is no function nope"),
            ("[x", "a [ has no ]"),
            ("[] + 1", "has no name"),
            ("1.2.3 + x", "1.2.3 is no number"),
            ("x $ 1", "should end"),
            (deep.as_str(), "nested deeper than 32"),
            (signs.as_str(), "nested deeper than 32"),
            (long.as_str(), "more than 512 steps"),
        ];
        for (text, wanted) in cases {
            let said = read(text).unwrap_err();
            assert!(said.contains(wanted), "{text}: {said}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[a-c0-9 .+*/^(),<>=!\\[\\]%ifnotax-]{0,60}") {
            if let Ok((expression, names)) = read(&text) {
                let _ = expression.value(&vec![1.5; names.len()]);
            }
        }
    }
}
