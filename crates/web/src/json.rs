//! JSON bodies, read strictly.

pub use legate_json::{Names, object};
