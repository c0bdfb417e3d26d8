import { Component, createElement, type ComponentType, type JSX } from 'preact';

/** A component that is drawn again only when one of its properties is another one. */
export function memo<P extends object>(draw: (props: P) => JSX.Element): ComponentType<P> {
  class Memo extends Component<P> {
    override shouldComponentUpdate(next: Readonly<P>): boolean {
      const a = this.props as Record<string, unknown>;
      const b = next as Record<string, unknown>;
      return Object.keys({ ...a, ...b }).some((k) => a[k] !== b[k]);
    }

    override render(): JSX.Element {
      return createElement(draw as ComponentType<P>, this.props as P);
    }
  }
  return Memo as unknown as ComponentType<P>;
}
