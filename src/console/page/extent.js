// The time span of a job by the times of its events, some of which may be wrong: a clock at 1970, a year too many. A
// single such event does not set the scale for the others.

/** Times further apart belong to different clusters. */
const APART_MS = 3_600_000;
/** How far a start or an end may be from everything else. */
const BOUND_MS_MAX = 30 * 86_400_000;
/** A cluster counts if it has this share of the events, and this many. */
const SHARE_MIN = 0.05;
const EVENTS_MIN = 3;
/** Beyond this number, the two nearest are merged. */
const CLUSTERS_MAX = 200;

export class Extent {
  /** `{ from, to, count, said, bounds, arrivedBounds }` in the order of time, more than `APART_MS` apart. `said`
   *  counts the events with a time of their own. */
  #clusters = [];
  #count = 0;
  #range = null;

  /** `isBound` is true for an event that starts or ends something; `isSaid` is false if its time is that of its
   *  arrival. */
  add(at, isBound, isSaid = true) {
    this.#count += 1;
    this.#range = null;
    const place = this.#place(at);
    const near = [place - 1, place].find((index) => this.#isNear(index, at));
    if (near === undefined) {
      const cluster = { from: at, to: at, count: 0, said: 0, bounds: 0, arrivedBounds: 0 };
      this.#clusters.splice(place, 0, cluster);
      count(cluster, isBound, isSaid);
      if (this.#clusters.length > CLUSTERS_MAX) this.#joinNearest();
      return;
    }
    const cluster = this.#clusters[near];
    cluster.from = Math.min(cluster.from, at);
    cluster.to = Math.max(cluster.to, at);
    count(cluster, isBound, isSaid);
    if (this.#isNear(near + 1, cluster.to)) this.#join(near);
  }

  /** The first cluster that starts after `at`. */
  #place(at) {
    let [low, high] = [0, this.#clusters.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#clusters[middle].from <= at) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #isNear(index, at) {
    const cluster = this.#clusters[index];
    return cluster !== undefined && cluster.from - APART_MS <= at && at <= cluster.to + APART_MS;
  }

  /** Merges a cluster with the next. */
  #join(index) {
    const [one, other] = this.#clusters.splice(index, 2);
    const joined = { from: one.from, to: Math.max(one.to, other.to) };
    for (const name of ["count", "said", "bounds", "arrivedBounds"]) joined[name] = one[name] + other[name];
    this.#clusters.splice(index, 0, joined);
  }

  #joinNearest() {
    let nearest = 0;
    const distance = (index) => this.#clusters[index + 1].from - this.#clusters[index].to;
    for (let index = 1; index < this.#clusters.length - 1; index += 1) if (distance(index) < distance(nearest)) nearest = index;
    this.#join(nearest);
  }

  /** `{ from, to }`, or null if there are no events. */
  get range() {
    if (this.#count > 0) this.#range ??= this.#measure();
    return this.#range;
  }

  #measure() {
    const clusters = this.#clusters;
    // Of two equal ones, prefer the one with its own times, then the later one: unset clocks are behind, and new
    // events are the ones watched.
    const isMore = (one, other) => one.count - other.count || one.said - other.said;
    const main = clusters.reduce((best, cluster) => (isMore(cluster, best) >= 0 ? cluster : best));
    let { from, to } = main;
    // Arrivals follow another clock; it decides if most times are arrivals.
    const isByArrival = main.said * 2 < main.count;
    const isMany = ({ count }) => count >= EVENTS_MIN && count >= this.#count * SHARE_MIN;
    const isBound = ({ bounds, arrivedBounds }, distance) => (bounds > 0 || (isByArrival && arrivedBounds > 0)) && distance <= BOUND_MS_MAX;
    // From the middle outwards, past clusters that do not count by themselves.
    for (const cluster of clusters.toReversed()) if (cluster.to < from && (isMany(cluster) || isBound(cluster, from - cluster.to))) from = cluster.from;
    for (const cluster of clusters) if (cluster.from > to && (isMany(cluster) || isBound(cluster, cluster.from - to))) to = cluster.to;
    return { from, to };
  }
}

function count(cluster, isBound, isSaid) {
  cluster.count += 1;
  if (isSaid) cluster.said += 1;
  if (isBound && isSaid) cluster.bounds += 1;
  if (isBound && !isSaid) cluster.arrivedBounds += 1;
}
