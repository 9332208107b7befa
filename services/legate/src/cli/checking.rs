//! `legate check`, with one question in flags or with many on standard input.

use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches, Id};

use super::{Check, Place};

/// One question, or a stream of them.
#[derive(Debug)]
pub(crate) enum Checking {
    /// As the flags say.
    One(Box<Check>),
    /// Each line of standard input.
    Stream {
        place: Box<Place>,
        /// The enforcement point's directory; `None`: as the operator.
        identity: Option<PathBuf>,
    },
}

const STREAM: &str = "stream";
/// What goes with a stream as well.
const WITH_STREAM: [&str; 1] = ["identity"];

impl Args for Checking {
    fn augment_args(cmd: Command) -> Command {
        let flags = Check::augment_args(Command::new("check"));
        let own: Vec<Id> = flags.get_arguments().map(|arg| arg.get_id().clone()).collect();
        let places: Vec<Id> =
            Place::augment_args(Command::new("place")).get_arguments().map(|arg| arg.get_id().clone()).collect();
        let others = own.into_iter().filter(|id| !places.contains(id) && !WITH_STREAM.contains(&id.as_str()));
        let stream = Arg::new(STREAM)
            .long("stream")
            .action(ArgAction::SetTrue)
            .conflicts_with_all(others)
            .help("Ask each line of standard input, an EvaluateRequest as JSON, over one stream; answers come as JSON lines, as they are ready, with the number of their line as itemId");
        Check::augment_args(cmd)
            .mut_group("subject", |group| group.required(false))
            .mut_args(
                |arg| if arg.is_required_set() { arg.required(false).required_unless_present(STREAM) } else { arg },
            )
            .arg(stream)
    }

    fn augment_args_for_update(cmd: Command) -> Command {
        Self::augment_args(cmd)
    }
}

impl FromArgMatches for Checking {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        if matches.get_flag(STREAM) {
            let place = Box::new(Place::from_arg_matches(matches)?);
            return Ok(Self::Stream { place, identity: matches.get_one::<PathBuf>("identity").cloned() });
        }
        let check = Check::from_arg_matches(matches)?;
        if check.agent.is_none() && check.token.is_none() {
            // A group cannot be required unless something else is there.
            let text = "one of --agent, --token and --stream is required\n";
            return Err(Error::raw(ErrorKind::MissingRequiredArgument, text));
        }
        Ok(Self::One(Box::new(check)))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
