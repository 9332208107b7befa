//! Rules that every file keeps, checked on the text of the repository.

mod imports;
mod links;
mod protos;
mod rules;
mod source;
mod words;
