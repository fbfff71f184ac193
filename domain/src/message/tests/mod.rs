//! A message: every cell of its matrix, its stories, and what holds always.

mod cases;
mod content;
mod matrix;
mod properties;
mod scenarios;
