//! `GET /openapi.json`: the description of all routes, for programs.

use axum::response::Response;

use super::json::json_text;

/// An OpenAPI document. A test compares it with the tables of routes.
const DESCRIPTION: &str = include_str!("openapi.json");

/// The description. It says nothing about anyone, so it needs no right.
pub(super) async fn openapi() -> Response {
    json_text(DESCRIPTION)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use serde_json::Value;

    use super::*;

    /// The tables of routes, each with the beginning of its paths.
    const TABLES: [(&str, &str); 2] = [
        ("", include_str!("routes.rs")),
        ("/sdapi/v1", include_str!("sdapi/routes.rs")),
    ];
    /// The methods of routes, as the tables and the description write them.
    const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

    type Routes = BTreeMap<String, BTreeSet<&'static str>>;

    /// The text up to the bracket that closes the one before it.
    fn arguments(text: &str) -> &str {
        let mut depth = 1;
        let end = text.find(|c| {
            depth += i32::from(c == '(') - i32::from(c == ')');
            depth == 0
        });
        &text[..end.expect("a call has an end")]
    }

    /// The paths and methods of a table: the calls of `route`.
    fn routes(prefix: &str, table: &str) -> Routes {
        let calls = table.split(".route(").skip(1).map(arguments);
        calls
            .map(|call| {
                let mut parts = call.splitn(3, '"').skip(1);
                let path = parts.next().expect("a path").replace("{*", "{");
                let handlers = parts.next().expect("its handlers");
                let has = |method: &str| {
                    [" ", ".", "\n"]
                        .iter()
                        .any(|before| handlers.contains(&format!("{before}{method}(")))
                };
                let methods = METHODS.into_iter().filter(|method| has(method)).collect();
                (format!("{prefix}{path}"), methods)
            })
            .collect()
    }

    fn described() -> Value {
        serde_json::from_str(DESCRIPTION).expect("it is JSON")
    }

    #[test]
    fn the_description_has_each_route_and_method_of_the_tables_and_no_other() {
        let served: Routes = TABLES
            .into_iter()
            .flat_map(|(prefix, table)| routes(prefix, table))
            .collect();
        assert!(served.len() > 10 && served.values().all(|methods| !methods.is_empty()));
        let [(_, whole), ..] = TABLES;
        let parts = whole.matches(".merge(").count() + whole.matches(".nest(").count();
        assert_eq!(
            parts + 1,
            TABLES.len(),
            "a table of routes is not read here"
        );
        let paths = described()["paths"].as_object().expect("paths").clone();
        let operations = |item: &Value| {
            let item = item.as_object().expect("operations").clone();
            METHODS
                .into_iter()
                .filter(|method| item.contains_key(*method))
                .collect()
        };
        let described: Routes = paths
            .iter()
            .map(|(path, item)| (path.clone(), operations(item)))
            .collect();
        assert_eq!(described, served);
    }

    #[test]
    fn a_table_is_read_with_all_methods_of_a_path() {
        let table =
            ".route(\"/a/{*id}\", get(one)).route(\n \"/b\",\n get(forget(b)).delete(c),\n)";
        let expected = [("/x/a/{id}", vec!["get"]), ("/x/b", vec!["delete", "get"])];
        let expected = expected.map(|(path, methods)| (path.into(), methods.into_iter().collect()));
        assert_eq!(routes("/x", table), expected.into());
    }

    #[test]
    fn the_description_names_this_version_and_every_reference_leads_somewhere() {
        fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
            match value {
                Value::Object(fields) => {
                    found.extend(fields.get("$ref").and_then(Value::as_str));
                    fields.values().for_each(|value| references(value, found));
                }
                Value::Array(values) => values.iter().for_each(|value| references(value, found)),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
            }
        }
        let description = described();
        assert_eq!(description["info"]["version"], env!("CARGO_PKG_VERSION"));
        let mut found = Vec::new();
        references(&description, &mut found);
        assert!(found.len() > 50);
        for reference in found {
            let pointer = reference.strip_prefix('#').expect("within the document");
            assert!(description.pointer(pointer).is_some(), "{reference}");
        }
    }
}
