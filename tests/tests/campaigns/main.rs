//! The campaigns in their short forms.
#![cfg(test)]

mod faults;
mod isolation;
mod restarts;
