//! An account: every cell of its matrix, its stories, its claims, and what holds always.

mod cases;
mod claims;
mod document;
mod matrix;
mod properties;
mod scenarios;
mod situations;
