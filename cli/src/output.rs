//! Standard output, which a reader such as `head` may close at any time.

use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};

use crate::Failure;

/// As `println!`, but a reader that is gone ends the process quietly: nobody wants the rest.
macro_rules! outln {
    ($($argument:tt)*) => {
        $crate::output::line(format_args!($($argument)*))
    };
}

pub(crate) fn line(text: Arguments<'_>) {
    if let Err(error) = writeln!(io::stdout().lock(), "{text}") {
        let failure = failed(&error);
        eprintln!("weft: {failure}");
        std::process::exit(1);
    }
}

/// Why standard output could not be written to; ends the process where its reader is gone.
pub(crate) fn failed(error: &io::Error) -> Failure {
    if error.kind() == ErrorKind::BrokenPipe {
        std::process::exit(0);
    }
    Failure::new(format!("standard output: {error}"))
}
