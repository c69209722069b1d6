//! The engine over real files: durability, crashes, and what follows from the log.
