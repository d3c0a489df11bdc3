//! The table of options as README shows it.
//!
//! Used by the suite `demo`. Invariant: made from what the component and the library say, and
//! nothing else.

use upsert_sink::OptionDoc;

/// A table in Markdown: the sink's options, then the host's.
pub fn markdown(guest: &[OptionDoc], host: &[OptionDoc]) -> String {
    let mut table = String::from("| option | type | default | allowed | what it does |\n");
    table.push_str("|---|---|---|---|---|\n");
    for option in guest.iter().chain(host) {
        let cells = [
            format!("`{}`", option.name),
            option.value_type.clone(),
            code(&option.default_value),
            option.bounds.clone(),
            option.doc.clone(),
        ];
        let cells = cells.map(|cell| cell.replace('|', "\\|").replace('\n', " "));
        table.push_str(&format!("| {} |\n", cells.join(" | ")));
    }
    table
}

fn code(value: &str) -> String {
    if value.is_empty() { String::new() } else { format!("`{value}`") }
}
