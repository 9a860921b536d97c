//! What must be true before a switch, and the switch.
