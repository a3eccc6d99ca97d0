// The small picture of a version: given with it, or drawn by the sdb when it is first looked at.
import { useEffect, useState } from "preact/hooks";
import { sdb } from "../api";
import { address } from "../router";
import { useLoaded } from "./loaded";

/** When to ask again for a picture that is being drawn; the sdb itself waits before it answers. */
const AGAIN_MS = 500;

interface QuicklookState {
  state: "ready" | "drawing" | "failed" | "none";
  origin: "given" | "drawn" | null;
  sha256: string | null;
  reason: string | null;
}

interface Which {
  product: string;
  obsId: string;
  version: number;
}

function useQuicklook({ product, obsId, version }: Which) {
  const path = `${address("products", product, obsId, "versions", String(version))}/quicklook`;
  const loaded = useLoaded(path, () => sdb<QuicklookState>(`${path}/state`));
  const found = loaded.value;
  useEffect(() => {
    if (found?.state !== "drawing") return;
    const timer = setTimeout(loaded.reload, AGAIN_MS);
    return () => clearTimeout(timer);
  }, [found]);
  return { ...loaded, source: `/api/sdb${path}` };
}

function Picture({ which, source, isGiven }: { which: Which; source: string; isGiven: boolean }) {
  const [isBroken, setBroken] = useState(false);
  const name = `${which.product} of ${which.obsId}, version ${which.version}`;
  if (isBroken) return <p class="problem">The picture of {name} cannot be shown.</p>;
  const origin = isGiven ? "given with it" : "drawn by Batuta";
  const alt = `Quicklook of ${name}, ${origin}`;
  return <img src={source} alt={alt} onError={() => setBroken(true)} />;
}

/** The picture of a version, or why there is none. */
export function Quicklook(which: Which) {
  const { value, problem, source } = useQuicklook(which);
  if (problem !== undefined) return <p class="problem">{problem}</p>;
  if (value === undefined) return <p class="quiet">Asking…</p>;
  if (value.state === "drawing") return <p class="quiet">Being drawn…</p>;
  if (value.state === "failed") return <p>Cannot be drawn: {value.reason}</p>;
  if (value.state === "none") {
    return (
      <p class="empty">
        There is none: {value.reason}. A pipeline gives one with its product:{" "}
        <code>Output(path, quicklook=picture)</code>.
      </p>
    );
  }
  const isGiven = value.origin === "given";
  return (
    <figure class="quicklook">
      <Picture key={source} which={which} source={source} isGiven={isGiven} />
      <figcaption class="quiet">{isGiven ? "Given with it" : "Drawn by Batuta"}</figcaption>
    </figure>
  );
}

/** The same where there is little room: nothing where there is no picture. */
export function SmallQuicklook(which: Which) {
  const { value, source } = useQuicklook(which);
  if (value?.state !== "ready" && value?.state !== "drawing") return null;
  return (
    <figure class="quicklook small">
      <a href={address("products", which.product, which.obsId)}>
        {value.state === "ready" ? (
          <Picture key={source} which={which} source={source} isGiven={value.origin === "given"} />
        ) : (
          <span class="quiet">Being drawn…</span>
        )}
        <figcaption>{which.product}</figcaption>
      </a>
    </figure>
  );
}
