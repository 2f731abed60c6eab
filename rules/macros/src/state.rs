//! `derive(State)`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::spanned::Spanned;
use syn::{Data, DeriveInput, Error, Fields, Index, Member, Result};

pub(crate) fn derive(input: TokenStream) -> Result<TokenStream> {
    let input: DeriveInput = syn::parse2(input)?;
    let Data::Struct(data) = &input.data else {
        return Err(Error::new(input.span(), "state is a struct"));
    };
    let mut version = quote!(1);
    for attribute in input.attrs.iter().filter(|attribute| attribute.path().is_ident("state")) {
        attribute.parse_nested_meta(|meta| {
            if meta.path.is_ident("version") {
                let number: syn::LitInt = meta.value()?.parse()?;
                version = quote!(#number);
                Ok(())
            } else {
                Err(meta.error("known here: version"))
            }
        })?;
    }
    let members: Vec<Member> = match &data.fields {
        Fields::Named(fields) => {
            fields.named.iter().flat_map(|f| f.ident.clone()).map(Member::Named).collect()
        }
        Fields::Unnamed(fields) => {
            (0..fields.unnamed.len()).map(|n| Member::Unnamed(Index::from(n))).collect()
        }
        Fields::Unit => Vec::new(),
    };
    let name = &input.ident;
    Ok(quote! {
        impl ::fieldgate_rule::State for #name {
            const VERSION: u32 = #version;
            #[allow(unused_variables)]
            fn save(&self, to: &mut ::fieldgate_rule::private::Vec<u8>) {
                #(::fieldgate_rule::State::save(&self.#members, to);)*
            }
            #[allow(unused_variables)]
            fn load(from: &mut &[u8]) -> ::core::option::Option<Self> {
                ::core::option::Option::Some(Self {
                    #(#members: ::fieldgate_rule::State::load(from)?),*
                })
            }
        }
    })
}
