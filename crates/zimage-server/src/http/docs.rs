//! The description of the API as a page: plain HTML, which needs no script and nothing from elsewhere.

use std::fmt::Write as _;

use serde_json::Value;

const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

/// The page of a description.
pub fn page(api: &Value) -> String {
    let mut page = String::from(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>zimage: HTTP API</title>\
         <link rel=\"stylesheet\" href=\"/assets/docs.css\"></head><body><h1>HTTP API</h1>",
    );
    paragraph(&mut page, &api["info"]["description"]);
    page.push_str("<p>For programs: <a href=\"/openapi.json\">openapi.json</a></p>");
    for tag in items(&api["tags"]) {
        let _ = write!(page, "<h2>{}</h2>", escaped(text(&tag["name"])));
        paragraph(&mut page, &tag["description"]);
        for (path, methods) in fields(&api["paths"]) {
            for method in METHODS {
                let operation = &methods[method];
                if items(&operation["tags"]).any(|name| *name == tag["name"]) {
                    describe(&mut page, api, method, path, operation);
                }
            }
        }
    }
    page.push_str("<h2>Types</h2>");
    for (name, schema) in fields(&api["components"]["schemas"]) {
        describe_type(&mut page, name, schema);
    }
    page.push_str("</body></html>");
    page
}

fn describe(page: &mut String, api: &Value, method: &str, path: &str, operation: &Value) {
    let _ =
        write!(page, "<h3><span class=\"method\">{}</span><code>{}</code></h3>", method.to_uppercase(), escaped(path));
    paragraph(page, &operation["summary"]);
    paragraph(page, &operation["description"]);
    let rows = items(&operation["parameters"]).map(|parameter| {
        let place = text(&parameter["in"]);
        [text(&parameter["name"]).to_owned(), place.to_owned(), text(&parameter["description"]).to_owned()]
    });
    table(page, ["Parameter", "In", "Meaning"], rows);
    if let Some((media_type, content)) = fields(&operation["requestBody"]["content"]).next() {
        let _ = write!(page, "<p>Body: <code>{}</code>, {}</p>", escaped(media_type), type_of(&content["schema"]));
    }
    page.push_str("<table><tr><th>Status</th><th>Meaning</th><th>Body</th></tr>");
    for (status, response) in fields(&operation["responses"]) {
        let body = fields(&response["content"]).next().map(|(_, content)| type_of(&content["schema"]));
        let meaning = prose(text(&response["description"]));
        let _ = write!(
            page,
            "<tr><td>{}</td><td>{meaning}</td><td>{}</td></tr>",
            escaped(status),
            body.unwrap_or_default()
        );
    }
    page.push_str("</table>");
    let _ = write!(page, "<pre>{}</pre>", escaped(&curl(api, method, path, operation)));
}

fn curl(api: &Value, method: &str, path: &str, operation: &Value) -> String {
    let mut command = String::from("curl");
    if method != "get" {
        let _ = write!(command, " -X {}", method.to_uppercase());
    }
    let path = path.replace("{id}", "$JOB").replace("{sha256}", "$SHA256").replace("{name}", "$SHA256.png");
    let _ = write!(command, " http://127.0.0.1:7860{path}");
    match fields(&operation["requestBody"]["content"]).next() {
        Some(("multipart/form-data", _)) => command.push_str(" -F image=@picture.png"),
        Some((_, content)) => {
            let example = if content["example"].is_null() {
                example(api, &content["schema"])
            } else {
                content["example"].to_string()
            };
            let _ = write!(command, " -H 'content-type: application/json' -d '{example}'");
        }
        None => {}
    }
    command
}

/// An object with the required fields of a type, so that a reader sees its shape.
fn example(api: &Value, schema: &Value) -> String {
    let name = text(&schema["$ref"]).rsplit('/').next().unwrap_or_default();
    let schema = &api["components"]["schemas"][name];
    let fields = items(&schema["required"]).filter_map(Value::as_str).map(|field| {
        let value = if schema["properties"][field]["type"] == "array" { "[\"...\"]" } else { "\"...\"" };
        format!("\"{field}\": {value}")
    });
    format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
}

fn describe_type(page: &mut String, name: &str, schema: &Value) {
    let name = escaped(name);
    let _ = write!(page, "<h3 id=\"{name}\">{name}</h3>");
    paragraph(page, &schema["description"]);
    let choices: Vec<&str> = items(&schema["enum"]).filter_map(Value::as_str).collect();
    if !choices.is_empty() {
        let _ = write!(page, "<p>One of <code>{}</code></p>", escaped(&choices.join(", ")));
    }
    let variants = items(&schema["oneOf"]).chain(items(&schema["allOf"]));
    for schema in std::iter::once(schema).chain(variants) {
        let _ = write!(page, "{}", properties(schema));
    }
}

fn properties(schema: &Value) -> String {
    let rows: String = fields(&schema["properties"])
        .map(|(name, property)| {
            let meaning = prose(text(&property["description"]));
            format!("<tr><td><code>{}</code></td><td>{}</td><td>{meaning}</td></tr>", escaped(name), type_of(property))
        })
        .collect();
    if rows.is_empty() {
        rows
    } else {
        format!("<table><tr><th>Field</th><th>Type</th><th>Meaning</th></tr>{rows}</table>")
    }
}

/// The name of a type, with a link where it has its own entry.
fn type_of(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next()) {
        let name = escaped(name);
        return format!("<a href=\"#{name}\">{name}</a>");
    }
    let choices: Vec<String> =
        ["oneOf", "allOf", "anyOf"].iter().flat_map(|key| items(&schema[key])).map(type_of).collect();
    if !choices.is_empty() {
        return choices.join(" or ");
    }
    match &schema["type"] {
        Value::String(name) if name == "array" => format!("list of {}", type_of(&schema["items"])),
        Value::String(name) => escaped(name),
        Value::Array(names) => escaped(&names.iter().map(text).collect::<Vec<_>>().join(" or ")),
        _ => "any".into(),
    }
}

fn table<const N: usize>(page: &mut String, head: [&str; N], rows: impl Iterator<Item = [String; N]>) {
    let rows: Vec<_> = rows.collect();
    if rows.is_empty() {
        return;
    }
    let row = |cells: &[String], tag: &str| {
        let cells = cells.iter().map(|cell| format!("<{tag}>{}</{tag}>", prose(cell)));
        format!("<tr>{}</tr>", cells.collect::<String>())
    };
    let _ = write!(page, "<table>{}", row(&head.map(str::to_owned), "th"));
    for cells in rows {
        page.push_str(&row(&cells, "td"));
    }
    page.push_str("</table>");
}

fn paragraph(page: &mut String, value: &Value) {
    if let Some(text) = value.as_str() {
        let _ = write!(page, "<p>{}</p>", prose(text));
    }
}

fn fields(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    value.as_object().into_iter().flatten().map(|(name, value)| (name.as_str(), value))
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Text in which backticks enclose code.
fn prose(text: &str) -> String {
    let escaped = escaped(text);
    let parts = escaped.split('`').enumerate();
    parts.map(|(i, part)| if i % 2 == 0 { part.to_owned() } else { format!("<code>{part}</code>") }).collect()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
