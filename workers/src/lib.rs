//! Process managers: react to events by doing something outside, and send commands back.
