//! `legate policy analyze`: what one set of policies permits and another does not, over every request that could be made.

#[cfg(feature = "analyze")]
mod compared;

#[cfg(feature = "analyze")]
pub(super) use compared::run;

/// Without the feature there is nobody to ask.
#[cfg(not(feature = "analyze"))]
pub(super) async fn run(_: super::Desk, args: crate::cli::PolicyAnalyze) -> Result<crate::Exit, crate::Failure> {
    let crate::cli::PolicyAnalyze { from, to, .. } = args;
    let what = format!(
        "{} and {} are not compared: this legate was built without the feature analyze",
        from.display(),
        to.display()
    );
    Err(crate::Failure::local(&crate::error::ANALYSIS_UNAVAILABLE, what))
}
