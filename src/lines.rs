//! A file that lines are appended to: `LOG_FILE` and `URL_LOG`. A line is one write, so those of
//! several threads never mix; one that cannot be written is counted, and costs nothing else.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// An open file. One that is created is its owner's alone.
pub struct Lines {
    path: String,
    state: Mutex<State>,
}

struct State {
    file: File,
    /// Lines lost since one was written.
    lost: u64,
}

/// A line could not be written.
pub struct Loss {
    /// Why.
    pub error: io::Error,
    /// How many that are in a row.
    pub lines: u64,
}

impl Lines {
    /// Opens a file to append to.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn open(path: &str) -> io::Result<Self> {
        let state = Mutex::new(State { file: open(path)?, lost: 0 });
        Ok(Self { path: path.to_owned(), state })
    }

    /// Its name.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Opens what has the name now: somebody may have moved the file away.
    ///
    /// # Errors
    /// When that cannot be written; lines go on into the old one.
    pub fn reopen(&self) -> io::Result<()> {
        let file = open(&self.path)?;
        self.state().file = file;
        Ok(())
    }

    /// Writes a line that ends in LF. How many are missing before it.
    ///
    /// # Errors
    /// [`Loss`], when there is no room for it.
    pub fn append(&self, line: &str) -> Result<u64, Loss> {
        let mut state = self.state();
        // Of a lost line there may be a part.
        let mended = if state.lost > 0 { format!("\n{line}") } else { String::new() };
        let line = if mended.is_empty() { line } else { &mended };
        match state.file.write_all(line.as_bytes()) {
            Ok(()) => Ok(std::mem::take(&mut state.lost)),
            Err(error) => {
                state.lost = state.lost.saturating_add(1);
                Err(Loss { error, lines: state.lost })
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn open(path: &str) -> io::Result<File> {
    File::options().create(true).append(true).mode(0o600).open(path)
}
