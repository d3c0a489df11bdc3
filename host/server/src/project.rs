//! The one project of a server, and its one schema.
//!
//! Routes and SQL check the names that a client gives against it. Invariant: names are equal
//! whatever their case.

use crate::error::Refusal;

/// The project.
#[derive(Clone, Debug)]
pub(crate) struct Project {
    name: String,
}

impl Project {
    pub(crate) fn new(name: &str) -> Self {
        Self { name: name.to_owned() }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Refuses every project but this one.
    pub(crate) fn check(&self, project: &str) -> Result<(), Refusal> {
        if project.eq_ignore_ascii_case(&self.name) {
            return Ok(());
        }
        let message =
            format!("there is no project {project}; the project of this server is {}", self.name);
        Err(Refusal::no_such("NoSuchProject", message))
    }

    /// Refuses every schema but the one that each project has, which some clients call by the
    /// project's name.
    pub(crate) fn check_schema(&self, schema: &str) -> Result<(), Refusal> {
        let names = ["default", &self.name];
        if names.iter().any(|name| schema.eq_ignore_ascii_case(name)) {
            return Ok(());
        }
        let message =
            format!("there is no schema {schema}; this server has only the schema default");
        Err(Refusal::no_such("NoSuchSchema", message))
    }
}
