//! What the outside comes in by: the port of the other services, that of the tiles, those of OTLP, and probes.

use std::sync::Arc;

use legate_boot::{Checks, Context, Probes, StartError};
use legate_mtls::{Identity, Limits, Listener, Trust};
use legate_rpc::{AlwaysGood, Serving};
use legate_web::Web;

use crate::access::{ACCESS, INTAKE};
use crate::config::Config;
use crate::flow::Desk;
use crate::watchman::{self, IndexWatch};
use crate::{NAME, api, otlp, web};

/// Sockets that are bound, at which nobody is answered yet.
pub(crate) struct Sockets {
    main: Listener,
    tiles: Option<Listener>,
    otlp_grpc: Option<Listener>,
    otlp_http: Option<Listener>,
}

/// What is served at them.
pub(crate) struct Doors {
    pub(crate) serving: Serving,
    pub(crate) web: Option<Web>,
    pub(crate) probes: Option<Probes>,
    /// For OTLP: over gRPC, and over HTTPS.
    pub(crate) intake: (Option<Serving>, Option<Web>),
}

impl Sockets {
    /// Binds every address of the configuration.
    pub(crate) async fn bind(
        config: &Config,
        identity: Identity,
        trust: Trust,
        ctx: &Context,
    ) -> Result<Self, StartError> {
        let clock = || Arc::clone(&ctx.clock);
        let main = Listener::bind(config.listen, identity.clone(), trust.clone(), clock(), Limits::default()).await?;
        let tiles = match config.web {
            None => None,
            Some(addr) => Some(Listener::bind_web(addr, identity.clone(), None, clock(), web::limits()).await?),
        };
        let otlp_grpc = match config.otlp.grpc {
            None => None,
            Some(addr) => {
                Some(Listener::bind(addr, identity.clone(), trust.clone(), clock(), Limits::default()).await?)
            }
        };
        let otlp_http = match config.otlp.http {
            None => None,
            Some(addr) => Some(Listener::bind_web(addr, identity, Some(trust), clock(), Limits::default()).await?),
        };
        Ok(Self { main, tiles, otlp_grpc, otlp_http })
    }

    /// Answers at all of them.
    pub(crate) async fn serve(
        self,
        config: &Config,
        ctx: &Context,
        desk: &Arc<Desk>,
        index: &IndexWatch,
    ) -> Result<Doors, StartError> {
        let probes = probes(config, ctx, desk, index).await?;
        let shop = web::Shop { log: desk.log.clone(), cosigned: desk.cosigned.clone(), entries: config.web_entries };
        let web = self.tiles.map(|listener| web::serve(listener, shop, ctx)).transpose()?;
        let http = self.otlp_http.map(|listener| otlp::serve(listener, Arc::clone(desk), ctx)).transpose()?;
        let grpc = match self.otlp_grpc {
            None => None,
            Some(listener) => {
                let routes = api::intake(Arc::clone(desk));
                let only = legate_rpc::Service { access: INTAKE, routes, ..service(desk, ctx) };
                Some(legate_rpc::serve(only, listener).await?)
            }
        };
        let serving = legate_rpc::serve(service(desk, ctx), self.main).await?;
        Ok(Doors { serving, web, probes, intake: (grpc, http) })
    }
}

fn service(desk: &Arc<Desk>, ctx: &Context) -> legate_rpc::Service {
    legate_rpc::Service {
        name: NAME,
        access: ACCESS,
        routes: api::routes(Arc::clone(desk)),
        // The standing of callers is their certificate's. What an agent tells that is stopped is to be known all the more.
        standing: Arc::new(AlwaysGood),
        clock: Arc::clone(&ctx.clock),
        limits: legate_rpc::Limits::default(),
        metrics: Arc::clone(&ctx.metrics),
        refusals: Arc::clone(&ctx.refusals),
        descriptors: ctx.descriptors,
    }
}

async fn probes(
    config: &Config,
    ctx: &Context,
    desk: &Arc<Desk>,
    index: &IndexWatch,
) -> Result<Option<Probes>, StartError> {
    let Some(addr) = config.probes else {
        return Ok(None);
    };
    // They are asked until the very end, and keep nothing open.
    let desk = Arc::downgrade(desk);
    let (for_log, for_disk, for_index, index) = (desk.clone(), desk.clone(), desk, index.clone());
    let found = |found: Option<Result<(), String>>| async move { found.unwrap_or_else(|| Err("stopping".to_owned())) };
    let checks = Checks::new()
        .with("log", move || found(for_log.upgrade().map(|desk| watchman::log_check(&desk))))
        .with("disk", move || found(for_disk.upgrade().map(|desk| watchman::disk_check(&desk))))
        .with("index", move || found(for_index.upgrade().map(|desk| index.check(&desk))));
    Ok(Some(Probes::start(addr, Arc::clone(&ctx.metrics), checks).await?))
}
