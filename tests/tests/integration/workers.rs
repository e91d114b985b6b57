//! Workers that die, hang, lie, flood or cannot be made, and what clients see of that: nothing, if
//! it can be helped.
mod bad_workers;
mod descriptors;
mod embedding_worker;
mod floods;
mod hangs;
mod lifetimes;
mod resume;
