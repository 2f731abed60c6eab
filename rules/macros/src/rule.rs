//! `#[rule]`: the types an author left out, the manifest, and the exports.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{Error, Ident, ImplItem, ItemImpl, LitInt, LitStr, Result, Token, Type};

use crate::json;

#[derive(Default)]
struct Said {
    state: Option<Type>,
    outputs: Option<Type>,
    emits: Option<Vec<String>>,
    fuel: Option<u64>,
    memory: Option<u64>,
    whole_batch: bool,
}

pub(crate) fn expand(attribute: TokenStream, item: TokenStream) -> Result<TokenStream> {
    let said: Said = syn::parse2(attribute)?;
    let mut item: ItemImpl = syn::parse2(item)?;
    if item.trait_.is_none() {
        return Err(Error::new(item.span(), "#[rule] stands before `impl Rule for ..`"));
    }
    let rule = item.self_ty.clone();
    let guest = if said.whole_batch {
        quote!(::fieldgate_rule::private::Whole<#rule>)
    } else {
        fill(&mut item, &said);
        quote!(::fieldgate_rule::private::PerSeries<#rule>)
    };
    let manifest = manifest(&said, &rule, &guest)?;
    let exports = exports(&rule, &guest);
    Ok(quote! {
        #item
        impl ::fieldgate_rule::private::Exported for #rule {
            type Guest = #guest;
            const MANIFEST: &'static str = #manifest;
        }
        #exports
    })
}

impl Parse for Said {
    fn parse(input: ParseStream) -> Result<Self> {
        let mut said = Self::default();
        while !input.is_empty() {
            let name: Ident = input.parse()?;
            if name == "whole_batch" {
                said.whole_batch = true;
            } else {
                input.parse::<Token![=]>()?;
                match name.to_string().as_str() {
                    "state" => said.state = Some(input.parse()?),
                    "outputs" => said.outputs = Some(input.parse()?),
                    "emits" => said.emits = Some(texts(input)?),
                    "fuel" => said.fuel = Some(input.parse::<LitInt>()?.base10_parse()?),
                    "memory" => said.memory = Some(input.parse::<LitInt>()?.base10_parse()?),
                    _ => {
                        let known = "known here: state, outputs, emits, fuel, memory, whole_batch";
                        return Err(Error::new(name.span(), known));
                    }
                }
            }
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        Ok(said)
    }
}

fn texts(input: ParseStream) -> Result<Vec<String>> {
    let list;
    syn::bracketed!(list in input);
    let all = Punctuated::<LitStr, Token![,]>::parse_terminated(&list)?;
    Ok(all.iter().map(LitStr::value).collect())
}

/// The types, and `fn outputs` of a rule that declares nothing.
fn fill(item: &mut ItemImpl, said: &Said) {
    let has = |item: &ItemImpl, name: &str| {
        item.items.iter().any(|one| match one {
            ImplItem::Fn(function) => function.sig.ident == name,
            ImplItem::Type(kind) => kind.ident == name,
            _ => false,
        })
    };
    if !has(item, "State") {
        let state = said.state.as_ref().map_or_else(|| quote!(()), ToTokens::to_token_stream);
        item.items.push(ImplItem::Verbatim(quote!(type State = #state;)));
    }
    if !has(item, "Outputs") {
        let outputs = said.outputs.as_ref().map_or_else(|| quote!(()), ToTokens::to_token_stream);
        item.items.push(ImplItem::Verbatim(quote!(type Outputs = #outputs;)));
    }
    if !has(item, "outputs") && said.outputs.is_none() {
        item.items.push(ImplItem::Verbatim(quote! {
            fn outputs(
                &self,
                _: &::fieldgate_rule::Series,
                _: &mut ::fieldgate_rule::Declare,
            ) -> ::core::result::Result<(), ::fieldgate_rule::Error> {
                ::core::result::Result::Ok(())
            }
        }));
    }
}

/// An expression for the manifest's text. Facts of the package are those of its `Cargo.toml`.
fn manifest(said: &Said, rule: &Type, guest: &TokenStream) -> Result<TokenStream> {
    let fact = |name: &str| std::env::var(format!("CARGO_PKG_{name}")).unwrap_or_default();
    let head = format!(
        "{{\"name\":{},\"version\":{},\"licence\":{},\"author\":{},\
         \"contract\":\"fieldgate:rule@1.0.0\",\"parameters\":[",
        json(&fact("NAME")),
        json(&fact("VERSION")),
        json(&fact("LICENSE")),
        json(&fact("AUTHORS").replace(':', ", ")),
    );
    let same = vec!["{device}/{point}".to_string()];
    let mut outputs = Vec::new();
    for text in said.emits.as_ref().unwrap_or(&same) {
        let (stream, name) = match text.strip_prefix("event ") {
            Some(name) => ("event", name),
            None => ("data", text.as_str()),
        };
        let Some((device, point)) = name.split_once('/') else {
            return Err(Error::new(rule.span(), format!("{text} is not DEVICE/POINT")));
        };
        let (device, point) = (json(device), json(point));
        outputs.push(format!("{{\"stream\":\"{stream}\",\"device\":{device},\"point\":{point}}}"));
    }
    let middle = format!("],\"outputs\":[{}],\"state_version\":", outputs.join(","));
    let mut limits = Vec::new();
    limits.extend(said.fuel.map(|fuel| format!("\"fuel\":{fuel}")));
    limits.extend(said.memory.map(|memory| format!("\"memory\":{memory}")));
    let tail = format!(
        ",\"capabilities\":[\"params\",\"output\",\"state\",\"timers\",\"log\"],\
         \"limits\":{{{}}}}}",
        limits.join(",")
    );
    Ok(quote! {{
        const VERSION: ([u8; 10], usize) = ::fieldgate_rule::private::decimal(
            <#guest as ::fieldgate_rule::private::Guest>::STATE_VERSION,
        );
        const PARTS: &[&str] = &[
            #head,
            <#rule as ::fieldgate_rule::Params>::SCHEMA,
            #middle,
            ::fieldgate_rule::private::str_of(&VERSION.0, VERSION.1),
            #tail,
        ];
        const BYTES: [u8; ::fieldgate_rule::private::length_of(PARTS)] =
            ::fieldgate_rule::private::bytes_of(PARTS);
        ::fieldgate_rule::private::str_of(&BYTES, 0)
    }})
}

fn exports(rule: &Type, guest: &TokenStream) -> TokenStream {
    quote! {
        #[cfg(target_family = "wasm")]
        #[allow(unsafe_code)]
        const _: () = {
            use ::fieldgate_rule::abi;
            static RULE: abi::Cell<#guest> = abi::Cell::new();

            #[used]
            #[unsafe(link_section = "fieldgate:rule")]
            static MANIFEST: [u8; <#rule as ::fieldgate_rule::private::Exported>::MANIFEST.len()] =
                ::fieldgate_rule::private::bytes_of(&[<#rule as ::fieldgate_rule::private::Exported>::MANIFEST]);
            #[unsafe(export_name = "cabi_realloc")]
            unsafe extern "C" fn realloc(
                old: *mut u8,
                old_bytes: usize,
                align: usize,
                bytes: usize,
            ) -> *mut u8 {
                unsafe { abi::realloc(old, old_bytes, align, bytes) }
            }
            #[unsafe(export_name = "fieldgate:rule/guest@1.0.0#open")]
            extern "C" fn open(at: u32, length: u32) -> *const abi::RawResult {
                RULE.open(at, length)
            }
            #[unsafe(export_name = "fieldgate:rule/guest@1.0.0#migrate")]
            extern "C" fn migrate(from: u32) -> *const abi::RawResult {
                RULE.migrate(from)
            }
            #[unsafe(export_name = "fieldgate:rule/guest@1.0.0#series-added")]
            extern "C" fn series_added(at: u32, length: u32) -> *const abi::RawResult {
                RULE.series_added(at, length)
            }
            #[unsafe(export_name = "fieldgate:rule/guest@1.0.0#process")]
            extern "C" fn process(
                batch: u64,
                now: i64,
                watermark: i64,
                clock_synced: i32,
                fresh: i32,
                at: u32,
                length: u32,
            ) -> *const abi::RawResult {
                RULE.process(abi::context(batch, now, watermark, clock_synced, fresh), at, length)
            }
            #[unsafe(export_name = "fieldgate:rule/guest@1.0.0#on-timer")]
            extern "C" fn on_timer(
                batch: u64,
                now: i64,
                watermark: i64,
                clock_synced: i32,
                fresh: i32,
                at: u32,
                length: u32,
            ) -> *const abi::RawResult {
                RULE.on_timer(abi::context(batch, now, watermark, clock_synced, fresh), at, length)
            }
        };
    }
}
