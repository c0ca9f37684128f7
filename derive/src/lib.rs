//! Macros of the message-passing runtime `tercio`.
mod test;

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

/// Makes a function a test that runs on several ranks: `cargo test` and nextest start a job for each number of ranks.
///
/// ```
/// use tercio::topology::SimpleCommunicator;
/// use tercio::traits::*;
///
/// #[tercio::test(np = [1, 2, 4])]
/// fn sums_agree(world: SimpleCommunicator) {
///     let mut sum = 0;
///     world.all_reduce_into(&world.rank(), &mut sum, tercio::collective::SystemOperation::sum());
///     assert_eq!(sum, world.size() * (world.size() - 1) / 2);
/// }
/// ```
///
/// Here the tests are `sums_agree::np_1`, `sums_agree::np_2` and `sums_agree::np_4`; each passes or fails on its own. The test's executable starts itself
/// anew for the ranks; nothing else has to be installed. Ranks are not bound to cores, since tests run beside each other.
///
/// * `np = 4` or `np = [1, 2, 4]`: how many ranks.
/// * `timeout = 10` or `timeout = 0.5`: after so many seconds the job is ended and the test fails, with where each rank was (60 unless told).
///
/// The function takes the world's communicator, the `Universe`, or nothing (and initializes the library itself, for another thread level). It
/// returns nothing or a `Result`, whose `Err` fails the test. It fails if any rank does: the message is the verdict, which names the first
/// rank that failed and why; what the ranks wrote stands before it, each line labelled with its rank. `#[should_panic(expected = ...)]` looks at the
/// verdict. `#[ignore]` and `#[cfg(...)]` are as for other tests.
///
/// Under nextest, tell it how many processors a test takes, in `.config/nextest.toml`:
///
/// ```toml
/// [[profile.default.overrides]]
/// filter = 'test(/::np_4$/)'
/// threads-required = 4
/// ```
#[proc_macro_attribute]
pub fn test(
    arguments: proc_macro::TokenStream,
    function: proc_macro::TokenStream,
) -> proc_macro::TokenStream {
    let function = parse_macro_input!(function as syn::ItemFn);
    test::expand(arguments.into(), function)
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
    Ok(match said {
        Some(path) => quote!(#path),
        None => found_library(),
    })
}

/// The path of the library, by the name that Cargo.toml gives it.
fn found_library() -> TokenStream {
    let name = match crate_name("tercio") {
        Ok(FoundCrate::Name(name)) => Ident::new(&name, Span::call_site()),
        // The library itself (which calls itself by this name), its examples and its tests; or a crate that cargo does not tell us about.
        Ok(FoundCrate::Itself) | Err(_) => format_ident!("tercio"),
    };
    quote!(::#name)
}
