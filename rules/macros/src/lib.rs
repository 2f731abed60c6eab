//! The derives and the attribute of `fieldgate-rule`; see there how a rule reads.

mod params;
mod rule;
mod state;

use proc_macro::TokenStream;

/// Parameters: each field is one, its doc comment the help that an operator reads.
///
/// `#[param(default = .., min = .., max = .., unit = "..")]`; durations as texts (`"10s"`). A field
/// without default must be given, an `Option` need not. `#[param(skip)]` leaves a field out and
/// fills it with `Default::default()`.
#[proc_macro_derive(Params, attributes(param))]
pub fn params(input: TokenStream) -> TokenStream {
    params::derive(input.into()).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// A parameter that is one of a few words: an enum whose variants have no fields. `TooHigh` is
/// written `too-high`, or as `#[param(word = "..")]` says.
#[proc_macro_derive(Choice, attributes(param))]
pub fn choice(input: TokenStream) -> TokenStream {
    params::choice(input.into()).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// State: every field is kept, in order. `#[state(version = 2)]` when its meaning has changed.
#[proc_macro_derive(State, attributes(state))]
pub fn state(input: TokenStream) -> TokenStream {
    state::derive(input.into()).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Exports a rule: before `impl Rule for ..`, or with `whole_batch` before `impl BatchRule for ..`.
///
/// `state = TYPE` is what it remembers of a series (nothing, when left out), `outputs = TYPE` what
/// `fn outputs` returns. `emits = ["{device}/{point}_{emit}", "event {device}/{event}"]` names what
/// it emits, for `check` to draw: words in braces are the input's names and parameters; the default
/// is the series itself. `fuel = ..` and `memory = ..` (bytes) suggest limits.
#[proc_macro_attribute]
pub fn rule(attribute: TokenStream, item: TokenStream) -> TokenStream {
    rule::expand(attribute.into(), item.into())
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}

/// A text as JSON.
fn json(text: &str) -> String {
    let mut json = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' => json.push_str("\\\""),
            '\\' => json.push_str("\\\\"),
            '\n' => json.push_str("\\n"),
            c if u32::from(c) < 0x20 => json.push(' '),
            c => json.push(c),
        }
    }
    json.push('"');
    json
}
