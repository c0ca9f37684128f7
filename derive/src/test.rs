//! `#[tercio::test]`.
use crate::found_library;
use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use std::collections::BTreeSet;
use syn::parse::Parser;
use syn::spanned::Spanned;
use syn::{Attribute, Error, Expr, ExprLit, ItemFn, Lit};

/// What stands in the attribute's parentheses.
struct Settings {
    ranks: Vec<usize>,
    timeout: Option<f64>,
}

/// The function as it is, and beside it a module of its name with a test for each number of ranks.
pub(crate) fn expand(arguments: TokenStream, mut function: ItemFn) -> Result<TokenStream, Error> {
    let settings = settings(arguments)?;
    let signature = &function.sig;
    if let Some(what) = signature
        .asyncness
        .map(|a| a.span())
        .or(signature.unsafety.map(|u| u.span()))
        .or((!signature.generics.params.is_empty()).then(|| signature.generics.span()))
    {
        return Err(Error::new(
            what,
            "a test is a plain function: not async, unsafe or generic",
        ));
    }
    if signature.inputs.len() > 1 {
        return Err(Error::new(
            signature.inputs.span(),
            "a test takes the world's communicator, the universe, or nothing; take one of them",
        ));
    }
    if let Some(test) = function.attrs.iter().find(|a| is_named(a, "test")) {
        return Err(Error::new(
            test.span(),
            "#[tercio::test] makes the tests itself; leave #[test] out",
        ));
    }
    let tercio = found_library();
    let name = &signature.ident;
    let run = match signature.inputs.is_empty() {
        true => quote!(run),
        false => quote!(run_with),
    };
    let (of_tests, own): (Vec<_>, Vec<_>) = function
        .attrs
        .iter()
        .cloned()
        .partition(|a| ["ignore", "should_panic"].iter().any(|n| is_named(a, n)));
    let conditions: Vec<_> = own.iter().filter(|a| is_named(a, "cfg")).cloned().collect();
    let timeout = match settings.timeout {
        Some(seconds) => quote!(::core::option::Option::Some(#seconds)),
        None => quote!(::core::option::Option::None),
    };
    let tests = settings.ranks.iter().map(|ranks| {
        let test = format_ident!("np_{ranks}");
        quote! {
            #[test]
            #(#of_tests)*
            fn #test() {
                #tercio::internal::Test {
                    path: concat!(module_path!(), "::", stringify!(#test)),
                    ranks: #ranks,
                    timeout: #timeout,
                }
                .#run(super::#name);
            }
        }
    });
    let tests = quote!(#(#tests)*);
    let module = name.clone();
    function.attrs = own;
    Ok(quote! {
        #[cfg(test)]
        #function

        #[cfg(test)]
        #(#conditions)*
        mod #module {
            /// Makes the executable the job's guard, before its main, where it was started to be that. libtest's main starts threads, and a
            /// guard must not have any.
            #[allow(unsafe_code)]
            #[used]
            // SAFETY: the loader calls the functions whose addresses stand in this section, once and before main; it is one.
            #[unsafe(link_section = ".init_array")]
            static ROLE: extern "C" fn() = {
                extern "C" fn role() {
                    #tercio::launch::role()
                }
                role
            };

            #tests
        }
    })
}

fn is_named(attribute: &Attribute, name: &str) -> bool {
    attribute.path().is_ident(name)
}

fn settings(arguments: TokenStream) -> Result<Settings, Error> {
    let mut ranks = None;
    let mut timeout = None;
    let mut twice = false;
    let parser = syn::meta::parser(|meta| {
        let value = |meta: &syn::meta::ParseNestedMeta<'_>| meta.value()?.parse::<Expr>();
        if meta.path.is_ident("np") {
            twice |= ranks.replace(numbers(&value(&meta)?)?).is_some();
        } else if meta.path.is_ident("timeout") {
            twice |= timeout.replace(seconds(&value(&meta)?)?).is_some();
        } else {
            return Err(meta.error("unknown setting; there are np = [1, 2, 4] and timeout = 60"));
        }
        match twice {
            true => Err(meta.error("given twice; give it once")),
            false => Ok(()),
        }
    });
    parser.parse2(arguments)?;
    let Some(ranks) = ranks else {
        return Err(Error::new(
            proc_macro2::Span::call_site(),
            "say on how many ranks the test runs: #[tercio::test(np = [1, 2, 4])] or #[tercio::test(np = 4)]",
        ));
    };
    Ok(Settings { ranks, timeout })
}

/// One number, or a list of different ones.
fn numbers(value: &Expr) -> Result<Vec<usize>, Error> {
    let all: Vec<&Expr> = match value {
        Expr::Array(array) => array.elems.iter().collect(),
        one => vec![one],
    };
    let wrong = |at: &Expr| {
        Error::new(
            at.span(),
            "np is a number of ranks, 1 to 1024, or a list of such",
        )
    };
    if all.is_empty() {
        return Err(wrong(value));
    }
    let mut seen = BTreeSet::new();
    let mut numbers = Vec::new();
    for at in all {
        let Expr::Lit(ExprLit {
            lit: Lit::Int(number),
            ..
        }) = at
        else {
            return Err(wrong(at));
        };
        let number: usize = number.base10_parse().map_err(|_| wrong(at))?;
        if !(1..=1024).contains(&number) {
            return Err(wrong(at));
        }
        if !seen.insert(number) {
            return Err(Error::new(
                at.span(),
                "this number of ranks stands there twice",
            ));
        }
        numbers.push(number);
    }
    Ok(numbers)
}

fn seconds(value: &Expr) -> Result<f64, Error> {
    let seconds = match value {
        Expr::Lit(ExprLit {
            lit: Lit::Int(number),
            ..
        }) => number.base10_parse::<f64>().ok(),
        Expr::Lit(ExprLit {
            lit: Lit::Float(number),
            ..
        }) => number.base10_parse::<f64>().ok(),
        _ => None,
    };
    seconds
        .filter(|seconds| *seconds > 0.0 && *seconds <= 1e9)
        .ok_or_else(|| Error::new(value.span(), "timeout is a number of seconds above 0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(arguments: TokenStream, function: TokenStream) -> String {
        let function = syn::parse2(function).unwrap();
        expand(arguments, function).unwrap_err().to_string()
    }

    #[test]
    fn each_number_of_ranks_becomes_a_test() {
        let function = syn::parse2(quote!(
            #[should_panic]
            fn f(world: World) {}
        ))
        .unwrap();
        let text = expand(quote!(np = [1, 3], timeout = 2), function)
            .unwrap()
            .to_string();
        for part in [
            "fn np_1 ()",
            "fn np_3 ()",
            "mod f",
            "run_with (super :: f)",
            "2f64",
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        assert_eq!(text.matches("should_panic").count(), 2, "{text}");
    }

    #[test]
    fn wrong_settings_and_functions_are_told() {
        let f = || {
            quote!(
                fn f() {}
            )
        };
        for (arguments, said) in [
            (quote!(), "say on how many ranks"),
            (quote!(np = 0), "1 to 1024"),
            (quote!(np = []), "1 to 1024"),
            (quote!(np = "4"), "1 to 1024"),
            (quote!(np = [2, 2]), "twice"),
            (quote!(np = 2, np = 3), "give it once"),
            (quote!(np = 2, timeout = 0), "above 0"),
            (quote!(ranks = 2), "there are np"),
        ] {
            let text = refused(arguments, f());
            assert!(text.contains(said), "{said:?} is not in {text:?}");
        }
        for (function, said) in [
            (
                quote!(
                    async fn f() {}
                ),
                "plain function",
            ),
            (
                quote!(
                    fn f<T>() {}
                ),
                "plain function",
            ),
            (
                quote!(
                    fn f(a: A, b: B) {}
                ),
                "take one of them",
            ),
            (
                quote!(
                    #[test]
                    fn f() {}
                ),
                "leave #[test] out",
            ),
        ] {
            let text = refused(quote!(np = 2), function);
            assert!(text.contains(said), "{said:?} is not in {text:?}");
        }
    }
}
