//! What a shared cache may do (RFC 9111): what may be stored, how long it is fresh, what revalidates it, and
//! what makes it void. Nothing here holds an answer.

mod conditional;
mod date;
mod directives;
mod fields;
mod head;
mod policy;
mod range;
mod structured;
mod urls;
mod variant;

pub use conditional::{Condition, condition, if_range};
pub use date::{http_date, write_date};
pub use directives::Directives;
pub use fields::Fields;
pub use head::{brief, kept, merged};
pub use policy::{Policy, State, Stored, policy};
pub use range::{Part, part};
pub use urls::voided;
pub use variant::Variant;

#[cfg(test)]
mod tests;
