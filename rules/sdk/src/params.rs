//! Parameters: what an operator can set, typed, with bounds, defaults and help that `fieldgate check`
//! knows before the rule runs.

use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use crate::Error;

/// A parameter's value as the host gives it, checked against the rule's schema.
#[derive(Debug, Clone, PartialEq)]
pub enum Param {
    /// Text.
    Text(String),
    /// Finite number.
    Number(f64),
    /// Whole number.
    Integer(i64),
    /// True or false.
    Boolean(bool),
    /// Microseconds.
    DurationUs(u64),
    /// Texts.
    Texts(Vec<String>),
    /// Finite numbers.
    Numbers(Vec<f64>),
}

/// Parameters of a rule. `#[derive(Params)]` writes this for a struct.
pub trait Params: Sized {
    /// The schema: JSON objects with commas between them.
    const SCHEMA: &'static str;

    /// Reads every parameter with `get`, taking defaults where it has none.
    ///
    /// # Errors
    /// When one is missing that has no default, or is of another kind.
    fn read(get: &mut dyn FnMut(&str) -> Option<Param>) -> Result<Self, Error>;
}

/// A type that a parameter can have. `#[derive(Choice)]` writes this for enums of words.
pub trait ParamType: Sized {
    /// Its word in the schema.
    const KIND: &'static str;
    /// The words it can be, as JSON texts with commas between them; empty when any will do.
    const CHOICES: &'static str = "";
    /// The schema's mark when it may be absent.
    const OPTIONAL: &'static str = "";

    /// Takes it from a parameter; `None` when that is of another kind.
    fn from_param(param: Param) -> Option<Self>;

    /// What it is when neither operator nor author say anything.
    #[must_use]
    fn absent() -> Option<Self> {
        None
    }
}

impl ParamType for f64 {
    const KIND: &'static str = "number";
    fn from_param(param: Param) -> Option<Self> {
        match param {
            Param::Number(number) => Some(number),
            #[expect(clippy::cast_precision_loss, reason = "people count below 2^53")]
            Param::Integer(number) => Some(number as Self),
            _ => None,
        }
    }
}

impl ParamType for i64 {
    const KIND: &'static str = "integer";
    fn from_param(param: Param) -> Option<Self> {
        if let Param::Integer(number) = param { Some(number) } else { None }
    }
}

impl ParamType for bool {
    const KIND: &'static str = "boolean";
    fn from_param(param: Param) -> Option<Self> {
        if let Param::Boolean(flag) = param { Some(flag) } else { None }
    }
}

impl ParamType for String {
    const KIND: &'static str = "text";
    fn from_param(param: Param) -> Option<Self> {
        if let Param::Text(text) = param { Some(text) } else { None }
    }
}

impl ParamType for Duration {
    const KIND: &'static str = "duration";
    fn from_param(param: Param) -> Option<Self> {
        if let Param::DurationUs(us) = param { Some(Self::from_micros(us)) } else { None }
    }
}

impl ParamType for Vec<f64> {
    const KIND: &'static str = "numbers";
    fn from_param(param: Param) -> Option<Self> {
        if let Param::Numbers(numbers) = param { Some(numbers) } else { None }
    }
}

/// Texts: strings, or words of a choice.
impl<T: Text> ParamType for Vec<T> {
    const KIND: &'static str = "texts";
    const CHOICES: &'static str = T::CHOICES;
    fn from_param(param: Param) -> Option<Self> {
        let Param::Texts(texts) = param else { return None };
        texts.into_iter().map(|text| T::from_param(Param::Text(text))).collect()
    }
}

/// A [`ParamType`] that is one text.
pub trait Text: ParamType {}
impl Text for String {}

impl<T: ParamType> ParamType for Option<T> {
    const KIND: &'static str = T::KIND;
    const CHOICES: &'static str = T::CHOICES;
    const OPTIONAL: &'static str = ",\"optional\":true";
    fn from_param(param: Param) -> Option<Self> {
        T::from_param(param).map(Some)
    }
    fn absent() -> Option<Self> {
        Some(None)
    }
}

/// Reads one parameter; the derive calls this for each field.
///
/// # Errors
/// When it is missing without a default, or of another kind.
pub fn one<T: ParamType>(
    name: &str,
    given: Option<Param>,
    default: Option<Param>,
) -> Result<T, Error> {
    let read = match given.or(default) {
        Some(param) => T::from_param(param),
        None => T::absent(),
    };
    read.ok_or_else(|| {
        let mut message = String::from("parameter ");
        message.push_str(name);
        message.push_str(" is missing or no ");
        message.push_str(T::KIND);
        Error::new("params", message)
    })
}
