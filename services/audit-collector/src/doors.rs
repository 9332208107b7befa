//! What the outside comes in by: the port of the other services, that of the tiles, those of OTLP, and probes.

use std::future::ready;
use std::sync::Arc;

use legate_boot::{Checks, Context, Probes, StartError};
use legate_mtls::{Identity, Limits, Listener, Trust};
use legate_rpc::{AlwaysGood, Serving};
use legate_web::Web;

use crate::access::{ACCESS, INTAKE};
use crate::config::Config;
use crate::seat::Seat;
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
        seat: &Seat,
        index: &IndexWatch,
    ) -> Result<Doors, StartError> {
        let probes = probes(config, ctx, seat, index).await?;
        let shop = web::Shop { seat: seat.clone(), entries: config.web_entries };
        let web = self.tiles.map(|listener| web::serve(listener, shop, ctx)).transpose()?;
        let http = self.otlp_http.map(|listener| otlp::serve(listener, seat.clone(), ctx)).transpose()?;
        let grpc = match self.otlp_grpc {
            None => None,
            Some(listener) => {
                let routes = api::intake(seat.clone());
                let only = legate_rpc::Service { access: INTAKE, routes, ..service(seat, ctx) };
                Some(legate_rpc::serve(only, listener).await?)
            }
        };
        let serving = legate_rpc::serve(service(seat, ctx), self.main).await?;
        Ok(Doors { serving, web, probes, intake: (grpc, http) })
    }
}

fn service(seat: &Seat, ctx: &Context) -> legate_rpc::Service {
    legate_rpc::Service {
        name: NAME,
        access: ACCESS,
        routes: api::routes(seat.clone()),
        // The standing of callers is their certificate's. What an agent tells that is stopped is to be known all the more.
        standing: Arc::new(AlwaysGood),
        clock: Arc::clone(&ctx.clock),
        limits: legate_rpc::Limits::default(),
        metrics: Arc::clone(&ctx.metrics),
        refusals: Arc::clone(&ctx.refusals),
        descriptors: ctx.descriptors,
    }
}

async fn probes(config: &Config, ctx: &Context, seat: &Seat, index: &IndexWatch) -> Result<Option<Probes>, StartError> {
    let Some(addr) = config.probes else {
        return Ok(None);
    };
    // They are asked until the very end; the desk is left before.
    let (for_log, for_disk, for_index, index) = (seat.clone(), seat.clone(), seat.clone(), index.clone());
    let checks = Checks::new()
        .with("log", move || ready(for_log.check(watchman::log_check)))
        .with("disk", move || ready(for_disk.check(watchman::disk_check)))
        .with("index", move || ready(for_index.check(|desk| index.check(desk))));
    Ok(Some(Probes::start(addr, Arc::clone(&ctx.metrics), checks).await?))
}
