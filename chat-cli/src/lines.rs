//! Messages from the lines of a file or of standard input.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use tokio::sync::mpsc::{self, Receiver};

use crate::exit::Failure;

/// The most that a message may have, in bytes.
const MAX_LINE: usize = 10_485_760;
/// Blanks around a line may come on top of it.
const MAX_RAW: u64 = MAX_LINE as u64 + 4096;
/// How much is handed on at once, unless a single line is longer.
const BATCH: usize = 64 * 1024;

/// Where lines come from.
pub(crate) struct Source {
    name: String,
    reader: BufReader<Box<dyn Read + Send>>,
}

/// Lines, oldest first, or what was wrong with the next.
pub(crate) type Batch = Result<Vec<Vec<u8>>, Failure>;

impl Source {
    pub(crate) fn stdin() -> Self {
        Self::new("standard input".into(), Box::new(io::stdin()))
    }

    /// Opens a file, or standard input for `-`. A file is looked through first: if one of its lines
    /// is too long, nothing of it is sent.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        if path.as_os_str() == "-" {
            return Ok(Self::stdin());
        }
        let name = path.display().to_string();
        let fail = |error: io::Error| Failure::io(format!("cannot read {name}: {error}"));
        let metadata = fs::metadata(path).map_err(fail)?;
        if metadata.is_dir() {
            return Err(Failure::io(format!(
                "{name} is a directory; give a file, or - for standard input"
            )));
        }
        let open = || {
            let file = File::open(path).map_err(fail)?;
            Ok(Self::new(name.clone(), Box::new(file)))
        };
        if metadata.is_file() {
            let mut lines = open()?.into_lines();
            while lines.next()?.is_some() {}
        }
        open()
    }

    fn new(name: String, reader: Box<dyn Read + Send>) -> Self {
        Self {
            name,
            reader: BufReader::with_capacity(BATCH, reader),
        }
    }

    fn into_lines(self) -> Lines {
        Lines {
            source: self,
            number: 0,
            done: false,
        }
    }

    /// Reads in a thread of its own, a little ahead.
    pub(crate) fn start(self) -> Receiver<Batch> {
        let (sender, receiver) = mpsc::channel(2);
        std::thread::spawn(move || {
            let mut lines = self.into_lines();
            loop {
                let batch = lines.batch();
                let last = !matches!(&batch, Ok(batch) if !batch.is_empty());
                if matches!(&batch, Ok(batch) if batch.is_empty())
                    || sender.blocking_send(batch).is_err()
                    || last
                {
                    return;
                }
            }
        });
        receiver
    }
}

struct Lines {
    source: Source,
    number: u64,
    done: bool,
}

impl Lines {
    /// The next lines, as many as are there without waiting. Empty at the end.
    fn batch(&mut self) -> Batch {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while let Some(line) = self.next()? {
            bytes += line.len();
            batch.push(line);
            if bytes >= BATCH || !self.source.reader.buffer().contains(&b'\n') {
                break;
            }
        }
        Ok(batch)
    }

    /// The next line that is not blank, without the blanks around it. The line `exit` is the end.
    fn next(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        while !self.done {
            let mut line = Vec::new();
            let reader = &mut self.source.reader;
            let read = reader
                .by_ref()
                .take(MAX_RAW)
                .read_until(b'\n', &mut line)
                .map_err(|error| {
                    Failure::io(format!("cannot read {}: {error}", self.source.name))
                })?;
            if read == 0 {
                break;
            }
            self.number += 1;
            let text = trim(&line);
            let cut_short = read as u64 == MAX_RAW && line.last() != Some(&b'\n');
            if text.len() > MAX_LINE || cut_short {
                return Err(Failure::usage(format!(
                    "line {} of {} is longer than {MAX_LINE} bytes, the most that a message may \
                     have; it was not sent",
                    self.number, self.source.name,
                )));
            }
            match text {
                b"" => {}
                b"exit" => self.done = true,
                text if text.len() == line.len() => return Ok(Some(line)),
                text => return Ok(Some(text.to_vec())),
            }
        }
        Ok(None)
    }
}

/// A line without the white space around it: Unicode's if it is text.
fn trim(line: &[u8]) -> &[u8] {
    match std::str::from_utf8(line) {
        Ok(text) => text.trim().as_bytes(),
        Err(_) => line.trim_ascii(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(input: impl Into<Vec<u8>>) -> Batch {
        let reader = Box::new(io::Cursor::new(input.into()));
        let mut lines = Source::new("test".into(), reader).into_lines();
        let mut all = Vec::new();
        loop {
            match lines.batch()? {
                batch if batch.is_empty() => return Ok(all),
                batch => all.extend(batch),
            }
        }
    }

    #[test]
    fn blanks_are_left_out_and_exit_is_the_end() {
        let all = lines(" one \r\n\n \t\ntwo\nexit\nthree\n").unwrap();
        assert_eq!(all, [&b"one"[..], b"two"]);
    }

    #[test]
    fn the_last_line_needs_no_line_feed() {
        assert_eq!(lines("one\ntwo").unwrap(), [&b"one"[..], b"two"]);
    }

    #[test]
    fn bytes_that_are_no_text_stay_as_they_are() {
        assert_eq!(lines(*b"\xff\xfe \n").unwrap(), [b"\xff\xfe"]);
    }

    #[test]
    fn the_longest_line_fits() {
        let line = vec![b'x'; MAX_LINE];
        let input = [b"  ", &line[..], b"  \n"].concat();
        assert!(lines(input).unwrap() == [line]);
    }

    #[test]
    fn a_longer_line_is_named() {
        let input = [b"short\n", &vec![b'x'; MAX_LINE + 1][..], b"\n"].concat();
        let error = lines(input).unwrap_err().to_string();
        assert!(
            error.starts_with("line 2 of test is longer than"),
            "{error}"
        );
    }

    #[test]
    fn a_line_without_end_is_not_read_to_its_end() {
        let endless = Box::new(io::repeat(b'x'));
        let mut lines = Source::new("test".into(), endless).into_lines();
        assert!(lines.next().is_err());
    }
}
