//! A command inside a BE, in namespaces of its own.
