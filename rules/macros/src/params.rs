//! `derive(Params)` and `derive(Choice)`.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::spanned::Spanned;
use syn::{Attribute, Data, DeriveInput, Error, Expr, Field, Fields, Lit, Result, Type, UnOp};

use crate::json;

/// What `#[param(..)]` says.
#[derive(Default)]
struct Said {
    default: Option<Expr>,
    min: Option<Expr>,
    max: Option<Expr>,
    unit: Option<String>,
    word: Option<String>,
    skip: bool,
}

pub(crate) fn derive(input: TokenStream) -> Result<TokenStream> {
    let input: DeriveInput = syn::parse2(input)?;
    let fields = match &input.data {
        Data::Struct(data) => match &data.fields {
            Fields::Named(fields) => fields.named.iter().collect(),
            Fields::Unit => Vec::new(),
            Fields::Unnamed(_) => {
                return Err(Error::new(input.span(), "parameters are fields with names"));
            }
        },
        _ => return Err(Error::new(input.span(), "parameters are the fields of a struct")),
    };
    let name = &input.ident;
    let mut parts: Vec<TokenStream> = Vec::new();
    let mut reads: Vec<TokenStream> = Vec::new();
    for field in fields {
        let ident = &field.ident;
        let said = said(&field.attrs)?;
        if said.skip {
            reads.push(quote!(#ident: ::core::default::Default::default()));
            continue;
        }
        if !parts.is_empty() {
            parts.push(quote!(","));
        }
        let (schema, read) = parameter(field, &said)?;
        parts.extend(schema);
        reads.push(read);
    }
    Ok(quote! {
        impl ::fieldgate_rule::Params for #name {
            const SCHEMA: &'static str = {
                const PARTS: &[&str] = &[#(#parts),*];
                const BYTES: [u8; ::fieldgate_rule::private::length_of(PARTS)] =
                    ::fieldgate_rule::private::bytes_of(PARTS);
                ::fieldgate_rule::private::str_of(&BYTES, 0)
            };
            #[allow(unused_variables)]
            fn read(
                get: &mut dyn FnMut(&str) -> ::core::option::Option<::fieldgate_rule::Param>,
            ) -> ::core::result::Result<Self, ::fieldgate_rule::Error> {
                ::core::result::Result::Ok(Self { #(#reads),* })
            }
        }
    })
}

/// The parts of a parameter's schema, and how it is read.
fn parameter(field: &Field, said: &Said) -> Result<(Vec<TokenStream>, TokenStream)> {
    let Some(ident) = &field.ident else {
        return Err(Error::new(field.span(), "a parameter has a name"));
    };
    let name = ident.to_string().trim_start_matches("r#").to_string();
    let kind = &field.ty;
    let duration = last_word(kind) == "Duration";
    let head = format!("{{\"name\":{},\"kind\":\"", json(&name));
    let as_type = quote!(<#kind as ::fieldgate_rule::ParamType>);
    let mut tail = String::from("]");
    let bounds = [("min", &said.min), ("max", &said.max), ("default", &said.default)];
    for (key, value) in bounds {
        if let Some(value) = value {
            tail.push_str(&format!(",\"{key}\":{}", literal(value)?.json()));
        }
    }
    if let Some(unit) = &said.unit {
        tail.push_str(&format!(",\"unit\":{}", json(unit)));
    }
    tail.push_str(&format!(",\"help\":{}}}", json(&help(&field.attrs))));
    let schema = vec![
        quote!(#head),
        quote!(#as_type::KIND),
        quote!("\""),
        quote!(#as_type::OPTIONAL),
        quote!(",\"choices\":["),
        quote!(#as_type::CHOICES),
        quote!(#tail),
    ];
    let default = match &said.default {
        Some(value) => {
            let value = literal(value)?.param(duration, kind)?;
            quote!(::core::option::Option::Some(#value))
        }
        None => quote!(::core::option::Option::None),
    };
    let read = quote!(#ident: ::fieldgate_rule::private::one(#name, get(#name), #default)?);
    Ok((schema, read))
}

pub(crate) fn choice(input: TokenStream) -> Result<TokenStream> {
    let input: DeriveInput = syn::parse2(input)?;
    let Data::Enum(data) = &input.data else {
        return Err(Error::new(input.span(), "a choice is an enum of words"));
    };
    let (name, mut words, mut variants) = (&input.ident, Vec::new(), Vec::new());
    for variant in &data.variants {
        if !matches!(variant.fields, Fields::Unit) {
            return Err(Error::new(variant.span(), "a word has no fields"));
        }
        let said = said(&variant.attrs)?;
        words.push(said.word.unwrap_or_else(|| kebab(&variant.ident.to_string())));
        variants.push(&variant.ident);
    }
    let choices = words.iter().map(|word| json(word)).collect::<Vec<_>>().join(",");
    Ok(quote! {
        impl #name {
            /// The word that an operator writes for it.
            #[allow(dead_code)]
            #[must_use]
            pub fn word(&self) -> &'static str {
                match self { #(Self::#variants => #words),* }
            }
        }
        impl ::fieldgate_rule::ParamType for #name {
            const KIND: &'static str = "text";
            const CHOICES: &'static str = #choices;
            fn from_param(
                param: ::fieldgate_rule::Param,
            ) -> ::core::option::Option<Self> {
                let ::fieldgate_rule::Param::Text(text) = param else {
                    return ::core::option::Option::None;
                };
                ::core::option::Option::Some(match text.as_str() {
                    #(#words => Self::#variants,)*
                    _ => return ::core::option::Option::None,
                })
            }
        }
        impl ::fieldgate_rule::private::Text for #name {}
    })
}

fn said(attributes: &[Attribute]) -> Result<Said> {
    let mut said = Said::default();
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("param")) {
        attribute.parse_nested_meta(|meta| {
            let is = |name| meta.path.is_ident(name);
            if is("skip") {
                said.skip = true;
            } else if is("default") {
                said.default = Some(meta.value()?.parse()?);
            } else if is("min") {
                said.min = Some(meta.value()?.parse()?);
            } else if is("max") {
                said.max = Some(meta.value()?.parse()?);
            } else if is("unit") {
                said.unit = Some(meta.value()?.parse::<syn::LitStr>()?.value());
            } else if is("word") {
                said.word = Some(meta.value()?.parse::<syn::LitStr>()?.value());
            } else {
                return Err(meta.error("known here: default, min, max, unit, word, skip"));
            }
            Ok(())
        })?;
    }
    Ok(said)
}

/// The doc comment as one line.
fn help(attributes: &[Attribute]) -> String {
    let lines = attributes.iter().filter_map(|attribute| {
        let syn::Meta::NameValue(pair) = &attribute.meta else { return None };
        let Expr::Lit(syn::ExprLit { lit: Lit::Str(text), .. }) = &pair.value else { return None };
        pair.path.is_ident("doc").then(|| text.value().trim().to_string())
    });
    lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

enum Literal {
    Text(String),
    Number(f64),
    Integer(i64),
    Boolean(bool),
    List(Vec<Self>),
}

fn literal(expression: &Expr) -> Result<Literal> {
    let other = || Error::new(expression.span(), "a number, a text, true, false or a list of them");
    match expression {
        Expr::Lit(lit) => Ok(match &lit.lit {
            Lit::Str(text) => Literal::Text(text.value()),
            Lit::Float(number) => Literal::Number(number.base10_parse()?),
            Lit::Int(number) => Literal::Integer(number.base10_parse()?),
            Lit::Bool(flag) => Literal::Boolean(flag.value),
            _ => return Err(other()),
        }),
        Expr::Unary(unary) if matches!(unary.op, UnOp::Neg(_)) => match literal(&unary.expr)? {
            Literal::Number(number) => Ok(Literal::Number(-number)),
            Literal::Integer(number) => Ok(Literal::Integer(-number)),
            _ => Err(other()),
        },
        Expr::Array(array) => {
            Ok(Literal::List(array.elems.iter().map(literal).collect::<Result<_>>()?))
        }
        _ => Err(other()),
    }
}

impl Literal {
    fn json(&self) -> String {
        match self {
            Self::Text(text) => json(text),
            Self::Number(number) => format!("{number:?}"),
            Self::Integer(number) => number.to_string(),
            Self::Boolean(flag) => flag.to_string(),
            Self::List(all) => {
                format!("[{}]", all.iter().map(Self::json).collect::<Vec<_>>().join(","))
            }
        }
    }

    fn param(&self, duration: bool, span: &Type) -> Result<TokenStream> {
        let param = quote!(::fieldgate_rule::Param);
        let text = |text: &str| quote!(::fieldgate_rule::private::String::from(#text));
        Ok(match self {
            Self::Text(text) if duration => {
                let us = micros(text).ok_or_else(|| {
                    Error::new(span.span(), format!("{text} is no duration; write \"10s\""))
                })?;
                quote!(#param::DurationUs(#us))
            }
            Self::Text(word) => {
                let word = text(word);
                quote!(#param::Text(#word))
            }
            Self::Number(number) => quote!(#param::Number(#number)),
            Self::Integer(number) => quote!(#param::Integer(#number)),
            Self::Boolean(flag) => quote!(#param::Boolean(#flag)),
            Self::List(all) => {
                let texts = all.iter().filter_map(|one| match one {
                    Self::Text(word) => Some(text(word)),
                    _ => None,
                });
                let texts: Vec<_> = texts.collect();
                let numbers = all.iter().filter_map(|one| match one {
                    Self::Number(number) => Some(*number),
                    #[expect(clippy::cast_precision_loss, reason = "people count below 2^53")]
                    Self::Integer(number) => Some(*number as f64),
                    _ => None,
                });
                let numbers: Vec<_> = numbers.collect();
                if numbers.len() == all.len() && !all.is_empty() {
                    quote!(#param::Numbers(::fieldgate_rule::private::vec![#(#numbers),*]))
                } else {
                    quote!(#param::Texts(::fieldgate_rule::private::vec![#(#texts),*]))
                }
            }
        })
    }
}

/// Microseconds of `1h30m`, `10s`, `250ms`.
fn micros(text: &str) -> Option<u64> {
    const UNITS: [(&str, u64); 6] = [
        ("us", 1),
        ("ms", 1_000),
        ("s", 1_000_000),
        ("m", 60_000_000),
        ("h", 3_600_000_000),
        ("d", 86_400_000_000),
    ];
    let (mut total, mut rest) = (0_u64, text.trim());
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let word = rest.find(|c: char| c.is_ascii_digit() || c == ' ').unwrap_or(rest.len());
        let unit = UNITS.iter().find(|(name, _)| *name == &rest[..word])?.1;
        total = total.checked_add(number.checked_mul(unit)?)?;
        rest = rest[word..].trim_start();
    }
    (!text.trim().is_empty()).then_some(total)
}

/// The last word of a type's path.
fn last_word(kind: &Type) -> String {
    let Type::Path(path) = kind else { return String::new() };
    path.path
        .segments
        .last()
        .map_or_else(String::new, |last| format_ident!("{}", last.ident).to_string())
}

fn kebab(name: &str) -> String {
    let mut word = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !word.is_empty() {
            word.push('-');
        }
        word.extend(letter.to_lowercase());
    }
    word
}
