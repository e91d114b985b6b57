//! The daemon as its operator has it: installed, started, told what to do, read about, and stopped.
mod install;
mod limits;
mod logs;
mod operate;
mod service_manager;
mod shutdown;
