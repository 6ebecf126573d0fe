//! Asks for what a first configuration depends on. Each question has an answer that an empty line takes, and is asked again after a wrong one.

use std::io::{self, BufRead, Write};

use super::answers::{Answers, Sink, Who};

const WHO: [(&str, Who); 4] = [
    ("programs on this machine only", Who::Local),
    ("devices with certificates, by TLS", Who::Certificates),
    ("devices and people with passwords, by TLS", Who::Passwords),
    ("whoever reaches the port, unencrypted", Who::Anybody),
];

/// `is_right` says what is wrong with the answers so far.
pub fn ask(
    input: &mut impl BufRead,
    output: &mut impl Write,
    is_right: &dyn Fn(&Answers) -> Result<(), String>,
) -> io::Result<Answers> {
    let mut asking = Asking { input, output, is_right, answers: Answers::default() };
    writeln!(asking.output, "An empty line takes what stands in brackets.")?;
    asking.question("Name of this gateway in records [the machine's name and id]", |answers, line| {
        answers.id = (!line.is_empty()).then(|| line.to_owned());
        Ok(())
    })?;
    for (number, (text, _)) in (1..).zip(WHO) {
        writeln!(asking.output, "  {number}  {text}")?;
    }
    asking.question("Who may connect? [1]", |answers, line| {
        let number = if line.is_empty() { Ok(1) } else { line.parse::<usize>() };
        let chosen = number.ok().and_then(|number| WHO.get(number.checked_sub(1)?));
        let (_, who) = chosen.ok_or("a number from 1 to 4")?;
        (answers.who, answers.listen) = (*who, who.listen().to_owned());
        Ok(())
    })?;
    let listen = asking.answers.listen.clone();
    asking.question(&format!("Address and port [{listen}]"), |answers, line| {
        answers.listen = if line.is_empty() { listen.clone() } else { line.to_owned() };
        Ok(())
    })?;
    writeln!(
        asking.output,
        "  archive, kinesis=NAME, firehose=NAME, kafka=HOST:PORT/NAME, s3=BUCKET, http=URL, mqtt=URL"
    )?;
    asking.question("Where do records go? Several with spaces between them [archive]", |answers, line| {
        let sinks: Result<Vec<Sink>, String> = line.split_whitespace().map(str::parse).collect();
        answers.sinks = Some(sinks?).filter(|sinks| !sinks.is_empty()).unwrap_or_else(|| vec![Sink::Archive]);
        Ok(())
    })?;
    if asking.answers.sinks.iter().any(Sink::is_of_aws) {
        asking.question("Region of AWS [AWS_REGION]", |answers, line| {
            answers.region = (!line.is_empty()).then(|| line.to_owned());
            Ok(())
        })?;
    }
    asking.question(
        "How large may the store become, such as 2GiB? [half of the free disk, at most 4GiB]",
        |answers, line| {
            answers.store_size = (!line.is_empty()).then(|| line.to_owned());
            Ok(())
        },
    )?;
    Ok(asking.answers)
}

struct Asking<'a, I, O> {
    input: &'a mut I,
    output: &'a mut O,
    is_right: &'a dyn Fn(&Answers) -> Result<(), String>,
    answers: Answers,
}

impl<I: BufRead, O: Write> Asking<'_, I, O> {
    /// Asks until the answer is one.
    fn question(&mut self, text: &str, take: impl Fn(&mut Answers, &str) -> Result<(), String>) -> io::Result<()> {
        loop {
            write!(self.output, "{text}: ")?;
            self.output.flush()?;
            let mut line = String::new();
            if self.input.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let mut answers = self.answers.clone();
            match take(&mut answers, line.trim()).and_then(|()| (self.is_right)(&answers)) {
                Ok(()) => {
                    self.answers = answers;
                    return Ok(());
                }
                Err(problem) => writeln!(self.output, "{}", problem.trim_end())?,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::init::try_answers;

    fn answered(lines: &str) -> (io::Result<Answers>, String) {
        let mut output = Vec::new();
        let answers = ask(&mut lines.as_bytes(), &mut output, &try_answers);
        (answers, String::from_utf8(output).expect("text"))
    }

    #[test]
    fn empty_lines_take_what_is_built_in() {
        let (answers, output) = answered("\n\n\n\n\n");
        assert_eq!(answers.expect("answered"), Answers::default());
        assert!(output.contains("[127.0.0.1:1883]") && !output.contains("Region"), "{output}");
    }

    #[test]
    fn a_wrong_answer_is_asked_for_again() {
        let (answers, output) =
            answered("truck-7\n9\n2\nnowhere\n0.0.0.0:9883\ntape\narchive kinesis=fleet\nx y\neu-west-1\n5\n1GiB\n");
        let answers = answers.expect("answered");
        assert_eq!((answers.id.as_deref(), answers.who), (Some("truck-7"), Who::Certificates));
        assert_eq!(answers.sinks, [Sink::Archive, Sink::Kinesis("fleet".to_owned())]);
        assert_eq!((answers.region.as_deref(), answers.store_size.as_deref()), (Some("eu-west-1"), Some("1GiB")));
        for words in [
            "a number from 1 to 4",
            "nowhere: not an address",
            "there are archive",
            "sink[1].region",
            "store.size_max = \"5\"",
        ] {
            assert!(output.contains(words), "{words}:\n{output}");
        }
        assert_eq!(answered("truck-7\n").0.expect_err("cut off").kind(), io::ErrorKind::UnexpectedEof);
    }
}
