//! Drawings as their readers get them.

mod hostile;
mod made_up;
mod pictures;
