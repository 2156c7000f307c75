//! Whether the document says what the router does, and who is asked for.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;

use hyper::Method;

use crate::cli::inquiry;
use crate::serve::openapi;
use crate::serve::router::{ROUTES, Route, is_named, name_of, route};

#[test]
fn document_and_router_name_the_same_routes() {
    let document: serde_json::Value = serde_json::from_str(openapi::DOCUMENT).unwrap();
    let told: BTreeSet<_> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, methods)| {
            methods.as_object().unwrap().keys().map(move |method| format!("{method} {path}"))
        })
        .collect();
    let known = |(path, method, _): &(&str, Method, Route)| {
        format!("{} {path}", method.as_str().to_ascii_lowercase())
    };
    assert_eq!(told, ROUTES.iter().map(known).collect());
}

#[test]
fn the_document_names_each_word_of_an_inquiry() {
    let document: serde_json::Value = serde_json::from_str(openapi::DOCUMENT).unwrap();
    for (path, _, route) in ROUTES {
        let name = match route {
            Route::Inquiry(name) => name,
            Route::Export | Route::GrafanaData => "export",
            _ => continue,
        };
        let told: BTreeSet<_> = document["paths"][path]["get"]["parameters"]
            .as_array()
            .unwrap()
            .iter()
            .map(|parameter| parameter["name"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(told, inquiry::parameters(name), "{path}");
    }
}

#[test]
fn a_path_is_known_with_its_method_only() {
    let code = |path, method| route(path, &method).map_err(|refusal| refusal.code);
    assert_eq!(code("/healthz", Method::GET), Ok(Route::Healthz));
    assert_eq!(code("/healthz", Method::HEAD), Ok(Route::Healthz));
    assert_eq!(code("/v1/reports", Method::HEAD), Err("method"));
    assert_eq!(code("/healthz/", Method::GET), Err("not_found"));
    assert_eq!(code("/v1/reports", Method::GET), Err("method"));
    assert_eq!(code("/metrics", Method::DELETE), Err("method"));
}

#[test]
fn a_host_header_is_a_name_and_perhaps_a_port() {
    for (header, name) in [
        ("collector", Some("collector")),
        ("collector:7717", Some("collector")),
        ("127.0.0.1:1", Some("127.0.0.1")),
        ("[::1]:1", Some("::1")),
        ("[::1]", Some("::1")),
        ("", Some("")),
        ("[::1", None),
        ("[::1]evil.example", None),
        ("127.0.0.1:x@evil.example", None),
    ] {
        assert_eq!(name_of(header), name, "{header}");
    }
}

#[test]
fn a_star_stands_for_one_label() {
    assert!(is_named("a.example", "a.example"));
    assert!(is_named("a.example", "*.example"));
    assert!(!is_named("a.b.example", "*.example"));
    assert!(!is_named("example", "*.example"));
    assert!(!is_named("evil-a.example", "a.example"));
}
