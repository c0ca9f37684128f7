//! Derive macros of the message-passing runtime `tercio`.
use proc_macro_crate::{FoundCrate, crate_name};
use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Data, DeriveInput, Error, Fields, Ident, Index, LitStr, Path, parse_macro_input};

/// Gives a struct its datatype, so that it can be sent and received.
///
/// The struct may have named fields, unnamed ones or none; each field is an `Equivalence` type, or an array or tuple of such. What travels is
/// the fields one after the other, in the order of their declaration and without padding.
///
/// The library is found under whatever name Cargo.toml gives it. If that cannot work (the struct is made by a macro of another crate, or the
/// library is re-exported), say where it is: `#[mpi(crate = "::some::path")]`.
///
/// ```
/// use tercio::traits::*;
///
/// #[derive(Equivalence, Clone, Copy, Default, PartialEq, Debug)]
/// struct Particle {
///     position: [f64; 3],
///     charge: (i8, bool),
/// }
///
/// let universe = tercio::initialize().unwrap();
/// let world = universe.world();
/// let electron = Particle { position: [0.0, 0.5, 1.0], charge: (-1, true) };
/// let (copy, _) = tercio::point_to_point::send_receive(&electron, &world.this_process(), &world.this_process());
/// assert_eq!(electron, copy);
/// ```
#[proc_macro_derive(Equivalence, attributes(mpi))]
pub fn derive_equivalence(input: proc_macro::TokenStream) -> proc_macro::TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    equivalence(&input)
        .unwrap_or_else(Error::into_compile_error)
        .into()
}

fn equivalence(input: &DeriveInput) -> Result<TokenStream, Error> {
    let Data::Struct(data) = &input.data else {
        return Err(Error::new(
            input.ident.span(),
            "Equivalence can be derived for structs only; send an enum as a number, or implement Equivalence by hand",
        ));
    };
    if !input.generics.params.is_empty() {
        return Err(Error::new(
            input.generics.span(),
            "Equivalence can be derived for structs without generic parameters only; implement it by hand for the types that are sent",
        ));
    }
    let tercio = library(input)?;
    let (name, text) = (&input.ident, input.ident.to_string());
    let fields = fields(&data.fields);
    Ok(quote! {
        // SAFETY: every item of the datatype is one of a field, at that field's offset, and fields hold any values of their items.
        #[automatically_derived]
        unsafe impl #tercio::datatype::traits::Equivalence for #name {
            type Out = #tercio::datatype::SystemDatatype;
            #[track_caller]
            fn equivalent_datatype() -> Self::Out {
                static DATATYPE: #tercio::internal::DerivedType = #tercio::internal::DerivedType::new();
                DATATYPE.get::<Self>(#text, |_fields| { #(#fields)* })
            }
        }
    })
}

/// One statement for each field.
fn fields(fields: &Fields) -> Vec<TokenStream> {
    let add = |(index, field): (usize, &syn::Field)| {
        let ty = &field.ty;
        let member = match &field.ident {
            Some(ident) => quote!(#ident),
            None => {
                let index = Index::from(index);
                quote!(#index)
            }
        };
        quote_spanned! { ty.span() => _fields.add::<#ty>(::core::mem::offset_of!(Self, #member)); }
    };
    fields.iter().enumerate().map(add).collect()
}

/// The path of the library: what `#[mpi(crate = "...")]` says, else the name that Cargo.toml gives it.
fn library(input: &DeriveInput) -> Result<TokenStream, Error> {
    let mut said: Option<Path> = None;
    for attribute in input.attrs.iter().filter(|a| a.path().is_ident("mpi")) {
        attribute.parse_nested_meta(|meta| {
            if !meta.path.is_ident("crate") {
                return Err(
                    meta.error("unknown attribute; the only one is #[mpi(crate = \"path\")]")
                );
            }
            if said.is_some() {
                return Err(meta.error("the library's path is given twice; give it once"));
            }
            said = Some(
                meta.value()?
                    .parse::<LitStr>()?
                    .parse_with(Path::parse_mod_style)?,
            );
            Ok(())
        })?;
    }
    if let Some(path) = said {
        return Ok(quote!(#path));
    }
    let name = match crate_name("tercio") {
        Ok(FoundCrate::Name(name)) => Ident::new(&name, Span::call_site()),
        // The library itself (which calls itself by this name), its examples and its tests; or a crate that cargo does not tell us about.
        Ok(FoundCrate::Itself) | Err(_) => format_ident!("tercio"),
    };
    Ok(quote!(::#name))
}
