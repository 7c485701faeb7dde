//! What a configuration depends on besides its text.

use super::material::Permissions;

/// Looks a variable up.
type Variable = Box<dyn Fn(&str) -> Option<String>>;

/// What a configuration may depend on besides its text.
pub(crate) struct Environment {
    /// A variable of the environment.
    pub(crate) variable: Variable,
    /// Cores of this machine.
    pub(crate) cores: usize,
    /// Who may read the keys.
    pub(crate) permissions: Permissions,
}

impl Environment {
    /// This process's own.
    pub(crate) fn of_process() -> Self {
        Self {
            variable: Box::new(|name| std::env::var(name).ok()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            permissions: Permissions::Strict,
        }
    }

    /// The same, with keys that others may read.
    pub(crate) fn with_permissions(self, permissions: Permissions) -> Self {
        Self {
            permissions,
            ..self
        }
    }
}
