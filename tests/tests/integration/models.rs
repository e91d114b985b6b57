//! Models: what loads them, when they are loaded, how much memory they may take, and others in
//! their place.
mod admission;
mod bad_templates;
mod lazy;
mod reload;
mod side_by_side;
