//! The lifecycle against a plain model.
